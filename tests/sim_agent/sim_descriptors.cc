#include "tests/sim_agent/sim_descriptors.h"

#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::sim {
namespace {

// As tests/sim/sim_host.cc names its files in memory.
absl::Status CheckName(int fd, const std::string& name) {
  char target[128];
  const ssize_t length =
      readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), target, sizeof(target));
  const std::string found(target, length > 0 ? static_cast<size_t>(length) : 0);
  if (found == absl::StrCat("/memfd:", name, " (deleted)")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a descriptor is \"", found, "\", not a simulated \"", name, "\""));
}

// What the simulated host has written into it; 0: nothing.
uint64_t MarkOf(int fd) {
  uint64_t mark = 0;
  return pread(fd, &mark, sizeof(mark), 0) == sizeof(mark) ? mark : 0;
}

}  // namespace

absl::Status SimDescriptors::Check(const UniqueFd& vm, const std::vector<uint32_t>& ids,
                                   const std::vector<UniqueFd>& vcpus) {
  if (absl::Status status = CheckName(vm.get(), "kvm-vm"); !status.ok()) return status;
  const uint64_t mark = MarkOf(vm.get());
  for (size_t i = 0; i < vcpus.size(); ++i) {
    if (absl::Status status = CheckName(vcpus[i].get(), absl::StrCat("kvm-vcpu:", ids[i]));
        !status.ok())
      return status;
    if (MarkOf(vcpus[i].get()) != mark) {
      return absl::InvalidArgumentError(
          absl::StrCat("vCPU ", ids[i], " does not belong to the VM"));
    }
  }
  return absl::OkStatus();
}

}  // namespace tsc_handoff::sim
