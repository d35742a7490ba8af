#include "tests/simulate/host.h"

#include <cstring>
#include <utility>

#include "tests/simulate/agent.h"
#include "tests/simulate/checker.h"

namespace tsc_handoff::simulate {
namespace {

constexpr int64_t kPollEveryPs = 250 * kPsPerMs;
// What the daemon adds to the error that it really has.
constexpr int64_t kSlackNs = 2'000;

std::string Bytes16(const std::string& text) {
  std::string bytes = text;
  bytes.resize(16, '.');
  return bytes;
}

clock_sim::SimClocksOptions ClocksOf(const HostOptions& options, Random& random) {
  clock_sim::SimClocksOptions clocks;
  clocks.tsc_start_ticks = random.Bits();
  clocks.tsc_khz = options.tsc_khz;
  clocks.tsc_error_ppb = options.tsc_error_ppb;
  clocks.error_at_start_ps = options.clock_error_ps;
  return clocks;
}

}  // namespace

// ---- the clock ----

clock::ClockSnapshot SimClockView::Snapshot() {
  if (polled_at_ps_ < 0 || context_.world().now_ps() - polled_at_ps_ > kPollEveryPs) Poll();
  return snapshot_;
}

void SimClockView::Poll() {
  const int64_t monotonic_ns = clocks_.monotonic_ns();
  const int64_t error_ps = clocks_.ErrorPs();
  snapshot_ = {};
  snapshot_.taken = {clocks_.realtime_ns(), monotonic_ns, 2,
                     static_cast<uint64_t>(clocks_.TrueTsc())};
  clock::ClockQuality& quality = snapshot_.quality;
  quality.trusted = !context_.Strikes(context_.faults().clock_untrusted);
  quality.status =
      quality.trusted ? clock::ClockStatus::kSynchronised : clock::ClockStatus::kUnknown;
  if (!quality.trusted) quality.untrusted_reason = "the daemon says so";
  quality.error_bound_ns = (error_ps < 0 ? -error_ps : error_ps) / clock_sim::kPsPerNs + kSlackNs;
  quality.tai_offset_s = 37;
  snapshot_.drift_ppm = 50;
  snapshot_.host_tsc_khz = tsc_khz_;
  snapshot_.tsc_rate_ppm = 50;
  snapshot_.trusted_until_ns = monotonic_ns + 10 * clock_sim::kNsPerSecond;
  polled_at_ps_ = context_.world().now_ps();
}

// ---- the host ----

Host::Host(Context& context, Checker& checker, const HostOptions& options)
    : context_(context),
      checker_(checker),
      options_(options),
      clocks_(context.world(), ClocksOf(options, context.random()), context.random().Fork()),
      clock_view_(context, clocks_, options.tsc_khz),
      disk_(Bytes16(absl::StrCat("agent-", options.number))) {
  facts_.host_name = std::string(1, static_cast<char>('A' + options.number));
  facts_.boot_id = Bytes16(absl::StrCat("boot-", options.number));
  facts_.tsc = {options.tsc_khz, options.can_scale, 48};
  facts_.simulated = true;
  clocks_.SetRatePpb(options.clock_rate_ppb);
}

Host::~Host() {
  // Registered VMs hold ports of the agent, and VMMs their registered VM.
  for (const auto& [vm_id, vmm] : vmms_) vmm->registered.reset();
}

void Host::StartAgent() {
  if (agent_ != nullptr) return;
  checker_.Loaded(*this, disk_.contents());
  agent_ = std::make_shared<Agent>(*this);
  context_.Note(name(), ": the agent is up");
  for (const auto& [vm_id, vmm] : vmms_) {
    context_.After(context_.random().OctaveBetween(kPsPerMs, 500 * kPsPerMs),
                   [this, vmm = vmm] { Connect(vmm); });
  }
  SweepLater(agent_);
}

void Host::CrashAgent(const char* where) {
  if (agent_ == nullptr) return;
  context_.Note(name(), ": the agent dies ", where);
  context_.Count(Fact::kAgentCrashed);
  agent_->Die();
  agent_.reset();  // calls in progress keep it until they notice
  if (disk_.Crash(context_.random()) > 0) context_.Count(Fact::kCrashedUnsynced);
  for (const auto& [vm_id, vmm] : vmms_) {
    if (vmm->connection == 0) continue;
    vmm->ReadInbox();
    vmm->connection = 0;
    vmm->registered.reset();
  }
  context_.After(context_.random().OctaveBetween(5 * kPsPerMs, 3 * kPsPerSecond),
                 [this] { StartAgent(); });
}

void Host::SweepLater(const std::shared_ptr<Agent>& agent) {
  context_.After(context_.random().OctaveBetween(100 * kPsPerMs, kPsPerSecond),
                 [this, life = std::weak_ptr<Agent>(agent)] {
                   const std::shared_ptr<Agent> same = life.lock();
                   if (same == nullptr || same->dead()) return;
                   try {
                     (void)same->controller().Sweep();
                   } catch (const AgentCrash&) {
                     return;
                   }
                   SweepLater(same);
                 });
}

VmmPtr Host::FindVmm(const std::string& vm_id) const {
  const auto found = vmms_.find(vm_id);
  return found == vmms_.end() ? nullptr : found->second;
}

VmmPtr Host::StartVmm(const std::string& vm_id, uint32_t guest_khz, std::vector<uint64_t> offsets,
                      bool awaits) {
  if (const VmmPtr earlier = FindVmm(vm_id); earlier != nullptr) KillVmm(earlier);
  auto vmm = std::make_shared<Vmm>();
  vmm->vm_id = vm_id;
  vmm->guest_khz = guest_khz;
  vmm->offsets = std::move(offsets);
  vmm->awaits = awaits;
  vmm->instance.resize(16);
  const uint64_t bits[2] = {context_.random().Bits(), context_.random().Bits()};
  std::memcpy(vmm->instance.data(), bits, sizeof(bits));
  vmms_[vm_id] = vmm;
  context_.Note(name(), ": a VMM of ", vm_id, " starts", awaits ? ", and awaits a handoff" : "");
  Connect(vmm);
  return vmm;
}

void Host::KillVmm(const VmmPtr& vmm) {
  if (!vmm->alive) return;
  context_.Note(name(), ": the VMM of ", vmm->vm_id, " dies");
  vmm->alive = vmm->running = vmm->granted = false;
  vmm->inbox.clear();
  if (vmm->registered != nullptr && agent_ != nullptr) agent_->registry().Remove(*vmm->registered);
  vmm->registered.reset();
  vmm->connection = 0;
  if (FindVmm(vmm->vm_id) == vmm) vmms_.erase(vmm->vm_id);
}

void Host::Disconnect(const VmmPtr& vmm) {
  if (vmm->connection == 0) return;
  context_.Note(name(), ": the VMM of ", vmm->vm_id, " loses its connection");
  vmm->ReadInbox();
  if (agent_ != nullptr) agent_->registry().Remove(*vmm->registered);
  vmm->registered.reset();
  vmm->connection = 0;
  context_.After(context_.random().OctaveBetween(50 * kPsPerUs, 500 * kPsPerMs),
                 [this, vmm] { Connect(vmm); });
}

void Host::Connect(const VmmPtr& vmm) {
  if (!vmm->alive || vmm->connection != 0 || agent_ == nullptr) return;
  registry::VmIdentity identity;
  identity.vm_id = vmm->vm_id;
  for (uint32_t id = 0; id < vmm->offsets.size(); ++id) identity.vcpu_ids.push_back(id);
  identity.awaits_handoff = vmm->awaits;
  identity.vmm_instance = vmm->instance;
  identity.running_at_registration = vmm->running;
  vmm->connection = ++connections_;
  vmm->due = !vmm->running;
  vmm->registered = std::make_shared<registry::RegisteredVm>(
      std::move(identity), std::make_unique<SimPort>(*agent_, vmm), std::vector<UniqueFd>());
  const absl::Status status =
      agent_->registry().Add(vmm->registered, [] { return absl::OkStatus(); });
  if (!status.ok()) {
    context_.Violate(absl::StrCat("a VMM cannot register: ", status.ToString()));
    return;
  }
  context_.Count(Fact::kVmmReconnected);
  agent_->controller().VmRegistered(vmm->registered);
}

void Host::PermitSent(const VmmPtr& vmm) {
  context_.After(context_.random().OctaveBetween(kPsPerUs, 2 * kPsPerMs), [this, vmm] {
    if (!vmm->alive) return;
    vmm->ReadInbox();
    if (vmm->MayResume()) {
      context_.After(context_.random().OctaveBetween(kPsPerUs, 20 * kPsPerMs),
                     [this, vmm] { TryResume(vmm); });
    }
  });
}

void Host::TryResume(const VmmPtr& vmm) {
  if (!vmm->MayResume() || vmm->running || vmm->kept_paused) return;
  context_.Note(name(), ": ", vmm->vm_id, " runs");
  vmm->running = true;
  checker_.Resumed(*this, *vmm);
}

}  // namespace tsc_handoff::simulate
