// Checks that the descriptors a VMM sent are what it says: one KVM VM and vCPUs of one VM with the
// ids named.
//
// The agent cannot ask KVM about them: every ioctl from another process than the VM's maker fails
// with EIO. What can be seen from outside: the kind and the vCPU id in the descriptor's name, and
// that the vCPUs' mappings share the one page that KVM keeps per VM.
//
// Threading: implementations may be called from any thread.
#ifndef TSC_HANDOFF_SERVER_PORT_DESCRIPTOR_CHECK_H_
#define TSC_HANDOFF_SERVER_PORT_DESCRIPTOR_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::port {

class DescriptorCheck {
 public:
  virtual ~DescriptorCheck() = default;
  // `vcpus[i]` is said to be the vCPU `ids[i]` of `vm`. Errors (without a Reason): a sentence for
  // the VMM's author.
  virtual absl::Status Check(const UniqueFd& vm, const std::vector<uint32_t>& ids,
                             const std::vector<UniqueFd>& vcpus) = 0;
};

class KvmDescriptorCheck final : public DescriptorCheck {
 public:
  absl::Status Check(const UniqueFd& vm, const std::vector<uint32_t>& ids,
                     const std::vector<UniqueFd>& vcpus) override;
};

}  // namespace tsc_handoff::port

#endif  // TSC_HANDOFF_SERVER_PORT_DESCRIPTOR_CHECK_H_
