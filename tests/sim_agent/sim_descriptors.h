// SimDescriptors: what an agent checks of a VM's descriptors, for simulated VMs: that they are
// called as KVM's are, and belong to one VM. Real ones are checked by port::KvmDescriptorCheck.
//
// Threading: any.
#ifndef TSC_HANDOFF_TESTS_SIM_AGENT_SIM_DESCRIPTORS_H_
#define TSC_HANDOFF_TESTS_SIM_AGENT_SIM_DESCRIPTORS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/base/unique_fd.h"
#include "server/port/descriptor_check.h"

namespace tsc_handoff::sim {

class SimDescriptors final : public port::DescriptorCheck {
 public:
  absl::Status Check(const UniqueFd& vm, const std::vector<uint32_t>& ids,
                     const std::vector<UniqueFd>& vcpus) override;
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_AGENT_SIM_DESCRIPTORS_H_
