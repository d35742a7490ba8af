#include "tests/sim_agent/control.h"

#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::sim {
namespace {

using Json = Control::Json;

Json Ok() { return {{"ok", true}}; }

Json Failed(const std::string& why) { return {{"ok", false}, {"error", why}}; }

// Numbers may be negative; ticks wrap.
std::vector<uint64_t> Ticks(const Json& command, const char* name) {
  std::vector<uint64_t> ticks;
  if (!command.contains(name)) return ticks;
  for (const Json& value : command.at(name)) {
    ticks.push_back(value.is_number_unsigned() ? value.get<uint64_t>()
                                               : static_cast<uint64_t>(value.get<int64_t>()));
  }
  return ticks;
}

Json PermitOf(const SimGuest& guest) {
  const absl::Status may_run = guest.MayRun();
  return {{"vm", guest.vm_id()},
          {"running", guest.running()},
          {"may_run", may_run.ok()},
          {"why", std::string(may_run.message())}};
}

// Ground truth of each vCPU at a moment of true time.
Json VcpusAt(const SimGuest& guest, int64_t true_ns) {
  Json vcpus = Json::array();
  for (size_t i = 0; i < guest.vm().vcpus.size(); ++i) {
    const int fd = guest.vcpu_fd(i);
    vcpus.push_back({{"id", guest.vm().vcpus[i].id},
                     {"guest_tsc_ticks", guest.GuestTscAt(i, true_ns)},
                     {"offset_ticks", guest.host().Offset(fd)},
                     {"scaling_ratio", guest.host().Ratio(fd)}});
  }
  return vcpus;
}

struct KvmclockReading {
  uint64_t kvmclock_ns = 0;
  int64_t error_ns = INT64_MAX;
};

// kvmclock at `true_ns`. It cannot be asked for another moment than now, so it is read between two
// readings of true time, and moved back; narrowest of several.
KvmclockReading KvmclockAt(const SimGuest& guest, SimTime& time, int64_t true_ns) {
  KvmclockReading best;
  for (int i = 0; i < 16; ++i) {
    const int64_t before_ns = time.NowNs();
    const uint64_t value_ns = guest.host().KvmclockNs(guest.vm().vm_fd);
    const int64_t after_ns = time.NowNs();
    const int64_t error_ns = (after_ns - before_ns) / 2 + 1;
    if (error_ns >= best.error_ns) continue;
    const int64_t since_ns = before_ns + (after_ns - before_ns) / 2 - true_ns;
    best = {value_ns - static_cast<uint64_t>(since_ns), error_ns};
  }
  return best;
}

}  // namespace

Control::Control(std::shared_ptr<SimTime> time, std::vector<std::unique_ptr<SimNode>> nodes)
    : time_(std::move(time)), nodes_(std::move(nodes)) {}

Control::~Control() {
  // Agents first: a VMM that leaves is then no event that anybody logs.
  for (auto& node : nodes_) node->StopAgent();
  guests_.clear();
}

Json Control::Ready() const { return {{"event", "ready"}, {"pid", getpid()}, {"hosts", Hosts()}}; }

Json Control::Execute(const std::string& line) {
  try {
    auto answer = Dispatch(Json::parse(line));
    if (!answer.ok()) return Failed(std::string(answer.status().message()));
    return *std::move(answer);
  } catch (const Json::exception& error) {
    return Failed(absl::StrCat("not a command of tests/sim_agent/control.h: ", error.what()));
  }
}

absl::StatusOr<Json> Control::Dispatch(const Json& command) {
  const std::string name = command.at("cmd").get<std::string>();
  if (name == "create_vm") return CreateVm(command);
  if (name == "destroy_vm") return DestroyVm(command);
  if (name == "pause") return Run(command, false);
  if (name == "resume") return Run(command, true);
  if (name == "block") return Block(command, true);
  if (name == "unblock") return Block(command, false);
  if (name == "permits") return Permits();
  if (name == "ports") return Json{{"ok", true}, {"hosts", Hosts()}};
  if (name == "clock") return SetClock(command);
  if (name == "truth") return Truth(command);
  if (name == "memory") return MemoryOfThisProcess();
  if (name == "quit") {
    quit_ = true;
    return Ok();
  }
  return absl::InvalidArgumentError(absl::StrCat("no command \"", name, "\""));
}

Json Control::Hosts() const {
  Json hosts = Json::array();
  for (const auto& node : nodes_) {
    const SimHostOptions& host = node->options().host;
    const clock::ClockQuality quality = node->clock().Read();
    hosts.push_back({{"name", node->options().name},
                     {"address", node->address()},
                     {"port", node->agent().ports().front()},
                     {"metrics_port", node->agent().metrics_port()},
                     {"tsc_khz", host.clock.tsc_khz},
                     {"vendor", host.kvm.vendor == Vendor::kVmx ? "vmx" : "svm"},
                     {"scaling", host.kvm.tsc_control},
                     {"wall_error_ns", host.clock.realtime_error_ns},
                     {"bound_ns", quality.trusted ? quality.error_bound_ns : -1}});
  }
  return hosts;
}

absl::StatusOr<size_t> Control::HostOf(const Json& command) const {
  const auto host = command.value("host", size_t{0});
  if (host < nodes_.size()) return host;
  return absl::InvalidArgumentError(absl::StrCat("there is no host ", host));
}

absl::StatusOr<SimGuest*> Control::GuestOf(const Json& command) {
  auto host = HostOf(command);
  if (!host.ok()) return host.status();
  const std::string vm = command.at("vm").get<std::string>();
  const auto found = guests_.find({*host, vm});
  if (found == guests_.end())
    return absl::NotFoundError(absl::StrCat("there is no VM ", vm, " on host ", *host));
  return found->second.get();
}

absl::StatusOr<Json> Control::CreateVm(const Json& command) {
  auto host = HostOf(command);
  if (!host.ok()) return host.status();
  SimGuestOptions options;
  options.vm_id = command.at("vm").get<std::string>();
  options.vcpu_ids = command.contains("ids") ? command.at("ids").get<std::vector<uint32_t>>()
                                             : DenseIds(command.at("vcpus").get<uint32_t>());
  options.phase_ticks = Ticks(command, "phases");
  options.tsc_adjust_ticks = Ticks(command, "tsc_adjust");
  options.deadline_ticks = Ticks(command, "deadlines");
  options.guest_khz = command.value("guest_khz", 0u);
  options.awaits_handoff = command.value("awaits_handoff", false);
  if (options.vcpu_ids.empty() || options.vcpu_ids.size() > TSC_KVM_MAX_VCPUS)
    return absl::InvalidArgumentError(absl::StrCat("a VM has 1 to ", TSC_KVM_MAX_VCPUS, " vCPUs"));
  Key key{*host, options.vm_id};
  if (guests_.contains(key))
    return absl::AlreadyExistsError(absl::StrCat("host ", *host, " has a VM ", options.vm_id));
  auto guest = nodes_[*host]->AddGuest(options, !command.value("socket", false));
  if (!guest.ok()) return guest.status();
  guests_.emplace(std::move(key), *std::move(guest));
  return Ok();
}

absl::StatusOr<Json> Control::DestroyVm(const Json& command) {
  auto guest = GuestOf(command);
  if (!guest.ok()) return guest.status();
  guests_.erase({*HostOf(command), (*guest)->vm_id()});
  return Ok();
}

absl::StatusOr<Json> Control::Run(const Json& command, bool run) {
  auto guest = GuestOf(command);
  if (!guest.ok()) return guest.status();
  if (!run) {
    (*guest)->Pause();
  } else if (absl::Status status = (*guest)->Resume(); !status.ok()) {
    return status;
  }
  return Ok();
}

absl::StatusOr<Json> Control::Block(const Json& command, bool block) {
  auto guest = GuestOf(command);
  if (!guest.ok()) return guest.status();
  const auto id = command.at("vcpu").get<uint32_t>();
  for (const tsc_kvm_vcpu& vcpu : (*guest)->vm().vcpus) {
    if (vcpu.id != id) continue;
    SimHost& host = (*guest)->host();
    block ? host.Block(vcpu.fd) : host.Unblock(vcpu.fd);
    return Ok();
  }
  return absl::NotFoundError(absl::StrCat("there is no vCPU ", id));
}

Json Control::Permits() const {
  Json vms = Json::array();
  for (const auto& [key, guest] : guests_) {
    Json vm = {{"host", key.first}};
    vm.update(PermitOf(*guest));
    vms.push_back(std::move(vm));
  }
  return {{"ok", true}, {"vms", std::move(vms)}};
}

absl::StatusOr<Json> Control::SetClock(const Json& command) {
  auto host = HostOf(command);
  if (!host.ok()) return host.status();
  SimNode& node = *nodes_[*host];
  if (command.contains("wall_error_ns"))
    node.host().clock().SetRealtimeErrorNs(command.at("wall_error_ns").get<int64_t>());
  if (!command.contains("bound_ns")) return Ok();
  const auto bound_ns = command.at("bound_ns").get<int64_t>();
  if (bound_ns >= 0) {
    node.clock().Trust(bound_ns);
  } else {
    node.clock().Distrust("told so by sim_agent's command \"clock\"");
  }
  return Ok();
}

absl::StatusOr<Json> Control::Truth(const Json& command) {
  const std::string vm = command.at("vm").get<std::string>();
  const int64_t true_ns = time_->NowNs();
  Json vms = Json::array();
  for (const auto& [key, guest] : guests_) {
    if (key.second == vm) vms.push_back(TruthOf(key.first, *guest, true_ns));
  }
  if (vms.empty()) return absl::NotFoundError(absl::StrCat("there is no VM ", vm));
  return Json{{"ok", true}, {"true_ns", true_ns}, {"vms", std::move(vms)}};
}

Json Control::TruthOf(size_t host, const SimGuest& guest, int64_t true_ns) const {
  SimHost& sim_host = guest.host();
  const KvmclockReading kvmclock = KvmclockAt(guest, *time_, true_ns);
  const int64_t right_ns = HostClockOptions().realtime_start_ns + true_ns;
  return {{"host", host},
          {"master_clock", sim_host.MasterClock(guest.vm().vm_fd)},
          {"kvmclock_ns", kvmclock.kvmclock_ns},
          {"kvmclock_read_error_ns", kvmclock.error_ns},
          {"host_tsc_ticks", sim_host.clock().TscAt(true_ns)},
          {"wall_error_ns", sim_host.clock().RealtimeAt(true_ns) - right_ns},
          {"vcpus", VcpusAt(guest, true_ns)}};
}

Json MemoryOfThisProcess() {
  Json answer = Ok();
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    const auto bytes = [&] {
      return std::strtoll(line.c_str() + line.find(':') + 1, nullptr, 10) * 1024;
    };
    if (line.starts_with("VmHWM:")) answer["rss_peak_bytes"] = bytes();
    if (line.starts_with("VmRSS:")) answer["rss_bytes"] = bytes();
  }
  int64_t fds = 0;
  if (DIR* directory = opendir("/proc/self/fd"); directory != nullptr) {
    while (readdir(directory) != nullptr) ++fds;
    closedir(directory);
    fds -= 3;  // ".", ".." and the directory's own
  }
  answer["fds"] = fds;
  return answer;
}

namespace {

// Of the VM `vm`, or, where that is empty, of all: resume of those that may run.
absl::StatusOr<size_t> RunVms(const std::vector<std::unique_ptr<SimGuest>>& guests,
                              const std::string& vm, bool run) {
  size_t count = 0;
  for (const auto& guest : guests) {
    if (!vm.empty() && guest->vm_id() != vm) continue;
    if (run && vm.empty() && !guest->MayRun().ok()) continue;
    ++count;
    if (!run) {
      guest->Pause();
    } else if (absl::Status status = guest->Resume(); !status.ok()) {
      return absl::FailedPreconditionError(absl::StrCat(guest->vm_id(), ": ", status.message()));
    }
  }
  if (count == 0 && !vm.empty()) return absl::NotFoundError(absl::StrCat("there is no VM ", vm));
  return count;
}

Json TruthOfVmms(const std::vector<std::unique_ptr<SimGuest>>& guests) {
  const int64_t true_ns = guests.front()->host().clock().time().NowNs();
  Json vms = Json::array();
  for (const auto& guest : guests) {
    vms.push_back({{"vm", guest->vm_id()},
                   {"guest_khz", guest->guest_khz()},
                   {"vcpus", VcpusAt(*guest, true_ns)}});
  }
  return {{"ok", true}, {"true_ns", true_ns}, {"vms", std::move(vms)}};
}

}  // namespace

Json ExecuteForVmms(const std::vector<std::unique_ptr<SimGuest>>& guests, const std::string& line) {
  try {
    const Json command = Json::parse(line);
    const std::string name = command.at("cmd").get<std::string>();
    if (name == "memory") return MemoryOfThisProcess();
    if (name == "truth") return TruthOfVmms(guests);
    if (name == "permits") {
      Json vms = Json::array();
      for (const auto& guest : guests) vms.push_back(PermitOf(*guest));
      return {{"ok", true}, {"vms", std::move(vms)}};
    }
    if (name != "pause" && name != "resume")
      return Failed("role vmms knows the commands pause, resume, permits, truth, memory and quit");
    const auto count = RunVms(guests, command.value("vm", ""), name == "resume");
    if (!count.ok()) return Failed(std::string(count.status().message()));
    return {{"ok", true}, {"count", *count}};
  } catch (const Json::exception& error) {
    return Failed(absl::StrCat("not a command of tests/sim_agent/control.h: ", error.what()));
  }
}

}  // namespace tsc_handoff::sim
