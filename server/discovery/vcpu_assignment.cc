#include "server/discovery/vcpu_assignment.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::discovery {
namespace {

// The descriptor of each id; the ids that have several.
struct ById {
  explicit ById(const std::vector<VcpuDescriptor>& vcpus) {
    for (const VcpuDescriptor& vcpu : vcpus) all[vcpu.id].push_back(vcpu.fd);
  }
  std::map<uint32_t, std::vector<int>> all;
};

VmDescriptors Undecided(int vm_fd, std::string why) { return {vm_fd, {}, std::move(why)}; }

VmDescriptors OnlyVm(int vm_fd, const ById& descriptors) {
  VmDescriptors out = {vm_fd, {}, ""};
  for (const auto& [id, fds] : descriptors.all) {
    if (fds.size() != 1) {
      return Undecided(vm_fd, absl::StrCat("there are ", fds.size(), " descriptors of vCPU ", id,
                                           " and one VM"));
    }
    out.vcpus.push_back({id, fds.front()});
  }
  return out;
}

VmDescriptors OneOfSeveral(int vm_fd, const ById& descriptors,
                           const std::vector<DebugfsVm>& debugfs) {
  const auto own = std::find_if(debugfs.begin(), debugfs.end(),
                                [&](const DebugfsVm& vm) { return vm.fd == vm_fd; });
  if (own == debugfs.end()) {
    return Undecided(vm_fd,
                     "the process has several VMs, and debugfs does not say which vCPUs are whose");
  }
  VmDescriptors out = {vm_fd, {}, ""};
  for (uint32_t id : own->vcpu_ids) {
    const auto has_it = [id](const DebugfsVm& vm) {
      return std::find(vm.vcpu_ids.begin(), vm.vcpu_ids.end(), id) != vm.vcpu_ids.end();
    };
    if (std::count_if(debugfs.begin(), debugfs.end(), has_it) != 1) {
      return Undecided(vm_fd, absl::StrCat("the process has several VMs with a vCPU ", id));
    }
    const auto found = descriptors.all.find(id);
    const size_t count = found == descriptors.all.end() ? 0 : found->second.size();
    if (count != 1) {
      return Undecided(vm_fd, absl::StrCat("there are ", count, " descriptors of vCPU ", id));
    }
    out.vcpus.push_back({id, found->second.front()});
  }
  std::sort(out.vcpus.begin(), out.vcpus.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return out;
}

// A VM that debugfs does not know may have any of the vCPUs; then nothing is certain of the others
// either.
bool KnowsAll(const std::vector<int>& vm_fds, const std::vector<DebugfsVm>& debugfs) {
  return std::all_of(vm_fds.begin(), vm_fds.end(), [&](int fd) {
    return std::any_of(debugfs.begin(), debugfs.end(),
                       [fd](const DebugfsVm& vm) { return vm.fd == fd; });
  });
}

}  // namespace

std::vector<VmDescriptors> AssignVcpus(std::vector<int> vm_fds, std::vector<VcpuDescriptor> vcpus,
                                       const std::vector<DebugfsVm>& debugfs) {
  std::sort(vm_fds.begin(), vm_fds.end());
  const ById descriptors(vcpus);
  std::vector<VmDescriptors> out;
  if (vm_fds.size() == 1) return {OnlyVm(vm_fds.front(), descriptors)};
  const std::vector<DebugfsVm> known =
      KnowsAll(vm_fds, debugfs) ? debugfs : std::vector<DebugfsVm>();
  for (int fd : vm_fds) out.push_back(OneOfSeveral(fd, descriptors, known));
  return out;
}

}  // namespace tsc_handoff::discovery
