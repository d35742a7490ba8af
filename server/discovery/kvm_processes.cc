#include "server/discovery/kvm_processes.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff::discovery {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kVmLink = "anon_inode:kvm-vm";
constexpr absl::string_view kVcpuLink = "anon_inode:kvm-vcpu:";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream out;
  out << file.rdbuf();
  return out.str();
}

std::string ReadLink(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return error ? std::string() : target.string();
}

// The entries of a directory whose whole names are numbers without sign, ascending. Empty where it
// cannot be read.
std::vector<int> Numbers(const std::string& directory) {
  std::vector<int> out;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    int number = 0;
    if (absl::SimpleAtoi(entry->path().filename().string(), &number) && number >= 0)
      out.push_back(number);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// The VMs of `pid` as debugfs has them: directories PID-FD with vcpuN in them.
std::vector<DebugfsVm> DebugfsVms(const std::string& root, pid_t pid) {
  std::vector<DebugfsVm> out;
  std::error_code error;
  for (fs::directory_iterator entry(root, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(name, absl::MaxSplits('-', 1));
    int owner = 0;
    DebugfsVm vm;
    if (!absl::SimpleAtoi(parts.first, &owner) || owner != pid ||
        !absl::SimpleAtoi(parts.second, &vm.fd))
      continue;
    std::error_code inner;
    for (fs::directory_iterator vcpu(entry->path(), inner); !inner && vcpu != end;
         vcpu.increment(inner)) {
      const std::string vcpu_name = vcpu->path().filename().string();
      uint32_t id = 0;
      if (absl::StartsWith(vcpu_name, "vcpu") && absl::SimpleAtoi(vcpu_name.substr(4), &id))
        vm.vcpu_ids.push_back(id);
    }
    out.push_back(std::move(vm));
  }
  return out;
}

std::vector<FoundVm> VmsOf(const Roots& roots, pid_t pid, const VmIdRule& rule) {
  const std::string directory = absl::StrCat(roots.proc, "/", pid);
  std::vector<int> vm_fds;
  std::vector<VcpuDescriptor> vcpus;
  const std::optional<uint64_t> started = ParseStartTime(ReadFile(directory + "/stat"));
  for (int fd : Numbers(directory + "/fd")) {
    const KvmDescriptor found = ParseDescriptor(ReadLink(absl::StrCat(directory, "/fd/", fd)));
    if (found.kind == KvmDescriptor::Kind::kVm) vm_fds.push_back(fd);
    if (found.kind == KvmDescriptor::Kind::kVcpu) vcpus.push_back({found.vcpu_id, fd});
  }
  if (vm_fds.empty() || !started) return {};
  FoundVm process;
  process.pid = pid;
  process.start_time_ticks = *started;
  process.executable = ReadLink(directory + "/exe");
  process.vm_id = rule.VmIdOf(SplitCommandLine(ReadFile(directory + "/cmdline"))).value_or("");
  struct stat owner = {};
  if (stat(directory.c_str(), &owner) == 0) process.uid = owner.st_uid;
  // All of this was read by number. Another process may have got it meanwhile.
  if (ParseStartTime(ReadFile(directory + "/stat")) != started) return {};
  std::vector<FoundVm> out;
  const bool several = vm_fds.size() > 1;
  for (VmDescriptors& vm :
       AssignVcpus(vm_fds, vcpus,
                   several ? DebugfsVms(roots.debugfs_kvm, pid) : std::vector<DebugfsVm>())) {
    FoundVm found = process;
    if (several && !found.vm_id.empty()) absl::StrAppend(&found.vm_id, ":", vm.vm_fd);
    found.descriptors = std::move(vm);
    out.push_back(std::move(found));
  }
  return out;
}

}  // namespace

KvmDescriptor ParseDescriptor(absl::string_view link) {
  KvmDescriptor out;
  if (link == kVmLink) out.kind = KvmDescriptor::Kind::kVm;
  if (absl::ConsumePrefix(&link, kVcpuLink) && absl::SimpleAtoi(link, &out.vcpu_id)) {
    out.kind = KvmDescriptor::Kind::kVcpu;
  }
  return out;
}

std::optional<uint64_t> ParseStartTime(absl::string_view stat) {
  // The name, in parentheses, may hold spaces and parentheses; the last one ends it. Then comes
  // field 3.
  const size_t name_end = stat.rfind(") ");
  if (name_end == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(stat.substr(name_end + 2), ' ', absl::SkipEmpty());
  uint64_t out = 0;
  if (fields.size() < 21 || !absl::SimpleAtoi(fields[22 - 3], &out)) return std::nullopt;
  return out;
}

std::vector<FoundVm> FindVms(const Roots& roots, const VmIdRule& rule) {
  std::vector<FoundVm> out;
  for (int pid : Numbers(roots.proc)) {
    for (FoundVm& vm : VmsOf(roots, pid, rule)) out.push_back(std::move(vm));
  }
  return out;
}

}  // namespace tsc_handoff::discovery
