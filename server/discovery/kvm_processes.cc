#include "server/discovery/kvm_processes.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

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

// A VM's directory in debugfs is named TID-FD.
struct DebugfsName {
  pid_t tid = 0;
  int fd = -1;
};
std::optional<DebugfsName> ParseDebugfsName(const std::string& name) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(name, absl::MaxSplits('-', 1));
  DebugfsName out;
  if (!absl::SimpleAtoi(parts.first, &out.tid) || !absl::SimpleAtoi(parts.second, &out.fd))
    return std::nullopt;
  return out;
}

// The VMs of `pid` as debugfs has them: with a vcpuN for each vCPU.
std::vector<DebugfsVm> DebugfsVms(const Roots& roots, pid_t pid) {
  std::vector<DebugfsVm> out;
  std::error_code error;
  for (fs::directory_iterator entry(roots.debugfs_kvm, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto name = ParseDebugfsName(entry->path().filename().string());
    if (!name || (name->tid != pid && ProcessOf(roots, name->tid) != pid)) continue;
    DebugfsVm vm;
    vm.fd = name->fd;
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

// The value of a line "Name:\tvalue" of /proc/PID/status; its word with this number, from 0.
std::optional<uint32_t> StatusField(const std::string& status, absl::string_view name,
                                    size_t word) {
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (!absl::ConsumePrefix(&line, name)) continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint32_t out = 0;
    if (word < words.size() && absl::SimpleAtoi(words[word], &out)) return out;
  }
  return std::nullopt;
}

// Lines "ID:CONTROLLERS:PATH" of /proc/PID/cgroup; the unified hierarchy is "0::".
std::string CgroupOf(const std::string& text) {
  std::string systemd;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::ConsumePrefix(&line, "0::")) return std::string(line);
    const size_t at = line.find(":name=systemd:");
    if (at != absl::string_view::npos)
      systemd = std::string(line.substr(at + strlen(":name=systemd:")));
  }
  return systemd;
}

// The file that the process executes, which may have been replaced since.
std::string ExecutableOf(const std::string& directory) {
  const std::string link = ReadLink(directory + "/exe");
  return std::string(absl::StripSuffix(link, " (deleted)"));
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
  process.executable = ExecutableOf(directory);
  process.cgroup = CgroupOf(ReadFile(directory + "/cgroup"));
  process.vm_id = rule.VmIdOf(SplitCommandLine(ReadFile(directory + "/cmdline"))).value_or("");
  const std::optional<uint32_t> uid = StatusField(ReadFile(directory + "/status"), "Uid:", 1);
  if (!uid) return {};
  process.uid = *uid;
  // All of this was read by number. Another process may have got it meanwhile.
  if (ParseStartTime(ReadFile(directory + "/stat")) != started) return {};
  std::vector<FoundVm> out;
  const bool several = vm_fds.size() > 1;
  for (VmDescriptors& vm :
       AssignVcpus(vm_fds, vcpus, several ? DebugfsVms(roots, pid) : std::vector<DebugfsVm>())) {
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
  return FindVmsOf(roots, Numbers(roots.proc), rule);
}

std::vector<FoundVm> FindVmsOf(const Roots& roots, const std::vector<pid_t>& pids,
                               const VmIdRule& rule) {
  std::vector<FoundVm> out;
  for (pid_t pid : pids) {
    for (FoundVm& vm : VmsOf(roots, pid, rule)) out.push_back(std::move(vm));
  }
  return out;
}

std::optional<pid_t> ProcessOf(const Roots& roots, pid_t tid) {
  const auto process =
      StatusField(ReadFile(absl::StrCat(roots.proc, "/", tid, "/status")), "Tgid:", 0);
  return process ? std::optional<pid_t>(*process) : std::nullopt;
}

std::optional<std::vector<pid_t>> ProcessesInDebugfs(const Roots& roots) {
  std::vector<pid_t> out;
  std::error_code error;
  fs::directory_iterator entry(roots.debugfs_kvm, error);
  if (error) return std::nullopt;
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    const auto name = ParseDebugfsName(entry->path().filename().string());
    if (!name) continue;
    const std::optional<pid_t> process = ProcessOf(roots, name->tid);
    if (!process) return std::nullopt;
    out.push_back(*process);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace tsc_handoff::discovery
