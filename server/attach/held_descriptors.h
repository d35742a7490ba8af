// HeldDescriptors: descriptors of our own for the VM and the vCPUs of a VMM, taken with
// pidfd_getfd.
//
// A VMM's descriptors are known by their numbers, and a number may be closed and come to mean
// something else. What is held here stays what it was, and tells whether the VMM's numbers still
// mean it.
//
// Threading: immutable; any thread.
#ifndef TSC_HANDOFF_SERVER_ATTACH_HELD_DESCRIPTORS_H_
#define TSC_HANDOFF_SERVER_ATTACH_HELD_DESCRIPTORS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/attach/target.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::attach {

class HeldDescriptors {
 public:
  // `vm_fd` and `vcpu_fds` are the target's numbers. Errors: kVmmGone, kAttachRefused.
  static absl::StatusOr<HeldDescriptors> Take(const Target& target, int vm_fd,
                                              const std::vector<int>& vcpu_fds);

  const UniqueFd& vm() const { return vm_; }
  const std::vector<UniqueFd>& vcpus() const { return vcpus_; }

  // OK when all of the target's numbers still mean what is held; kVmmGone when one does not, for
  // then the VM has ended, whatever became of its process. Where the kernel does not compare
  // (kcmp), the names of the descriptors must do.
  absl::Status CheckUnchanged(const Target& target) const;

 private:
  struct Number {
    int fd = -1;
    std::string name;
  };
  HeldDescriptors() = default;
  absl::Status CheckOne(const Target& target, const Number& number, const UniqueFd& held) const;

  UniqueFd vm_;
  std::vector<UniqueFd> vcpus_;
  Number vm_number_;
  std::vector<Number> vcpu_numbers_;  // in the order of vcpus_
};

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_HELD_DESCRIPTORS_H_
