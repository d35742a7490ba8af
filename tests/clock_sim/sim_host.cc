#include "tests/clock_sim/sim_host.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/clock/auto_clock_source.h"
#include "server/clock/fixed_clock_source.h"
#include "server/clock/kernel_clock_source.h"
#include "tests/clock_sim/chrony_source.h"
#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

host::HostFacts FactsOf(const SimHostOptions& options) {
  host::HostFacts facts;
  facts.boot_id = options.boot_id;
  facts.tsc = {options.clocks.tsc_khz, options.can_scale, options.frac_bits};
  facts.simulated = true;
  return facts;
}

SimMonitorOptions MonitorOptions(const SimHostOptions& options) {
  SimMonitorOptions monitor = options.monitor;
  monitor.tracker.host_tsc_khz = options.clocks.tsc_khz;
  return monitor;
}

}  // namespace

SimHost::SimHost(World& world, const SimHostOptions& options, handoff::PeerProber& prober,
                 const handoff::Limits& limits, handoff::Timekeeper::ProbeObserver on_probe,
                 Random random)
    : world_(world),
      options_(options),
      facts_(FactsOf(options)),
      clocks_(world, options.clocks, random.Fork()),
      discipline_(world, clocks_, options.discipline, random.Fork(), [this] { NoteStep(); }),
      leap_second_(world, clocks_, options.leap_second, [this] { NoteStep(); }),
      kernel_(clocks_, discipline_, leap_second_, options.tunes),
      source_(MakeSource()),
      monitor_(world, clocks_, *source_, MonitorOptions(options), random.Fork()),
      sleep_log_(clocks_),
      timekeeper_(facts_, sleep_log_, monitor_, prober, limits, std::move(on_probe)) {
  if (options.honest) clocks_.WatchRealtime([this] { CheckClaim(); });
}

std::unique_ptr<clock::ClockSource> SimHost::MakeSource() {
  const auto adjtimex = [this](timex* values) { return kernel_.Adjtimex(*values); };
  auto kernel = std::make_unique<clock::KernelClockSource>(adjtimex);
  auto chrony = std::make_unique<ChronySource>(world_, clocks_, discipline_, kernel_,
                                               options_.silent_from_ps, options_.silent_until_ps);
  switch (options_.source) {
    case SourceKind::kChrony:
      return chrony;
    case SourceKind::kKernel:
      return kernel;
    case SourceKind::kFixed:
      return std::make_unique<clock::FixedClockSource>(options_.fixed_bound_ns, adjtimex);
    case SourceKind::kAuto:
      break;
  }
  return std::make_unique<clock::AutoClockSource>(std::move(chrony), std::move(kernel),
                                                  options_.sticky_ns);
}

void SimHost::Start() {
  discipline_.Start();
  steps_ = 0;  // by which it set the clock at the beginning
  leap_second_.Start();
  monitor_.Start();
}

void SimHost::NoteStep() {
  ++steps_;
  monitor_.NoteStep();
}

void SimHost::StepByForeigner(int64_t ps) {
  clocks_.StepRealtime(ps);
  discipline_.NoteForeignStep();
  NoteStep();
}

void SimHost::CheckClaim() {
  if (!discipline_.undeceived() || !broken_claim_.empty()) return;
  const int64_t claim_ns =
      options_.source == SourceKind::kFixed ? options_.fixed_bound_ns : discipline_.ClaimNs();
  const int64_t error_ps = clocks_.ErrorPs();
  if (std::abs(error_ps) <= claim_ns * kPsPerNs) return;
  broken_claim_ = absl::StrCat("at ", world_.now_ps(), " ps a claim of ", claim_ns,
                               " ns for an error of ", error_ps, " ps");
}

}  // namespace tsc_handoff::clock_sim
