#include "tests/sim_agent/sim_node.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/journal/sqlite_journal.h"
#include "tests/sim_agent/sim_descriptors.h"

namespace tsc_handoff::sim {
namespace {

constexpr absl::Duration kRegistrationTimeout = absl::Seconds(20);

class AgentsHostClock final : public clock::HostClock {
 public:
  explicit AgentsHostClock(sim::HostClock& clock) : clock_(clock) {}
  uint64_t ReadTsc() override { return clock_.ReadTsc(); }
  int64_t ReadRealtimeNs() override { return clock_.ReadRealtimeNs(); }
  int64_t ReadMonotonicNs() override { return clock_.ReadMonotonicNs(); }
  void SleepNs(int64_t ns) override { clock_.time().Sleep(ns); }

 private:
  sim::HostClock& clock_;
};

// What the script says, as if the source had been asked this very moment.
class ScriptedClockView final : public clock::ClockView {
 public:
  ScriptedClockView(std::shared_ptr<const ClockScript> script, HostClock& clock)
      : script_(std::move(script)), clock_(clock) {}
  clock::ClockSnapshot Snapshot() override {
    clock::ClockSnapshot snapshot;
    snapshot.quality = script_->Read();
    snapshot.quality.tai_offset_s = clock_.tai_offset_s();
    const int64_t true_ns = clock_.time().NowNs();
    snapshot.taken = {clock_.RealtimeAt(true_ns), clock_.MonotonicAt(true_ns), 0};
    snapshot.trusted_until_ns = snapshot.taken.monotonic_ns + kScriptHoldsNs;
    return snapshot;
  }

 private:
  static constexpr int64_t kScriptHoldsNs = 10'000'000'000;
  const std::shared_ptr<const ClockScript> script_;
  HostClock& clock_;
};

// A simulated VM's descriptors are files in memory; the real check would refuse them, and rightly.
class AnyDescriptors final : public port::DescriptorCheck {
 public:
  absl::Status Check(const UniqueFd& /*vm*/, const std::vector<uint32_t>& /*ids*/,
                     const std::vector<UniqueFd>& /*vcpus*/) override {
    return absl::OkStatus();
  }
};

SimHostOptions WithRealFds(SimHostOptions options) {
  options.real_fds = true;
  return options;
}

host::HostFacts Facts(const SimNodeOptions& options) {
  host::HostFacts facts;
  facts.host_name = options.name;
  facts.kernel_release = "simulated";
  facts.boot_id = options.name + std::string(16, '.');
  facts.boot_id.resize(16);
  facts.tsc.host_khz = options.host.clock.tsc_khz;
  facts.tsc.can_scale = options.host.kvm.tsc_control;
  facts.tsc.frac_bits = static_cast<uint32_t>(FracBits(options.host.kvm.vendor));
  facts.tsc_unstable_reason = options.tsc_unstable_reason;
  facts.kvm_unavailable_reason = options.kvm_unavailable_reason;
  facts.simulated = true;
  return facts;
}

}  // namespace

agent::Options QuietAgent() {
  agent::Options options;
  options.listen = {"127.0.0.1:0"};
  options.transport.insecure_tcp = true;
  options.vmm_socket.clear();
  options.metrics_address.clear();
  options.peer_address = "127.0.0.1:0";
  return options;
}

void ClockScript::Trust(int64_t error_bound_ns) {
  std::lock_guard<std::mutex> lock(mutex_);
  quality_ = {};
  quality_.status = clock::ClockStatus::kSynchronised;
  quality_.trusted = true;
  quality_.error_bound_ns = error_bound_ns;
  quality_.source = "fixed";
}

void ClockScript::Distrust(const std::string& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  quality_ = {};
  quality_.source = "kernel";
  quality_.untrusted_reason = why;
}

void ClockScript::SetLeapSecond(bool leap_second) {
  std::lock_guard<std::mutex> lock(mutex_);
  quality_.leap_second = leap_second;
}

clock::ClockQuality ClockScript::Read() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return quality_;
}

SimNode::SimNode(std::shared_ptr<SimTime> time, SimNodeOptions options)
    : options_(std::move(options)),
      host_(std::move(time), WithRealFds(options_.host)),
      clock_(std::make_shared<ClockScript>()) {
  clock_->Trust(options_.clock_bound_ns);
}

SimNode::~SimNode() {
  StopAgent();
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

absl::StatusOr<std::unique_ptr<SimNode>> SimNode::Start(std::shared_ptr<SimTime> time,
                                                        SimNodeOptions options) {
  std::unique_ptr<SimNode> node(new SimNode(std::move(time), std::move(options)));
  if (absl::Status status = node->StartAgent(); !status.ok()) return status;
  return node;
}

absl::Status SimNode::StartAgent() {
  agent::Platform platform;
  platform.facts = Facts(options_);
  platform.host_clock = std::make_unique<AgentsHostClock>(host_.clock());
  platform.clock = std::make_unique<ScriptedClockView>(clock_, host_.clock());
  if (options_.check_descriptors) {
    platform.descriptor_check = std::make_unique<SimDescriptors>();
  } else {
    platform.descriptor_check = std::make_unique<AnyDescriptors>();
  }
  if (options_.make_host_vms) platform.host_vms = options_.make_host_vms();
  auto journal = OpenJournal();
  if (!journal.ok()) return journal.status();
  platform.journal = *std::move(journal);
  auto agent = agent::Agent::Start(options_.agent, std::move(platform));
  if (!agent.ok()) return agent.status();
  agent_ = *std::move(agent);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<journal::Journal>> SimNode::OpenJournal() {
  if (options_.open_journal) return options_.open_journal();
  if (options_.journal_path.empty() && directory_.empty()) {
    char directory[] = "/tmp/tsc-node.XXXXXX";
    if (mkdtemp(directory) == nullptr)
      return absl::UnavailableError(absl::StrCat("mkdtemp: ", strerror(errno)));
    directory_ = directory;
  }
  auto journal = journal::SqliteJournal::Open(
      options_.journal_path.empty() ? directory_ + "/journal.db" : options_.journal_path);
  if (!journal.ok()) return journal.status();
  return *std::move(journal);
}

void SimNode::StopAgent() { agent_.reset(); }

std::string SimNode::address() const { return absl::StrCat("127.0.0.1:", agent_->ports().front()); }

absl::StatusOr<std::unique_ptr<SimGuest>> SimNode::AddGuest(const SimGuestOptions& options,
                                                            bool in_process) {
  auto guest = SimGuest::Make(host_, options);
  if (!guest.ok()) return guest.status();
  if (in_process) {
    auto socket = (*guest)->ConnectPair();
    if (!socket.ok()) return socket.status();
    agent_->Adopt(*std::move(socket));
  } else if (absl::Status status = (*guest)->Connect(options_.agent.vmm_socket); !status.ok()) {
    return status;
  }
  if (absl::Status status = (*guest)->AwaitRegistered(kRegistrationTimeout); !status.ok())
    return status;
  return guest;
}

}  // namespace tsc_handoff::sim
