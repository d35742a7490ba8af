#include "client/tscctl/report.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/tscctl/clock_report.h"
#include "client/tscctl/format.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Align = Table::Align;

std::string Khz(uint32_t khz) { return absl::StrCat(Thousands(khz), " kHz"); }

std::string TicksText(uint64_t ticks) {
  return absl::StrCat(Thousands(ticks), ticks == 1 ? " tick" : " ticks");
}

std::string SourceClock(const v1::TimeReference& reference, const Palette& palette) {
  const std::string clock = reference.clock_trusted()
                                ? absl::StrCat("trusted, ", PlusMinus(reference.clock_error_ns()))
                                : palette.Red("not trusted");
  return reference.leap_second() ? clock + palette.Yellow(", a leap second was near") : clock;
}

std::string Deadline(uint64_t ticks) { return ticks == 0 ? "-" : Thousands(ticks); }

// "clocks 20.0 us + 20.0 us, rate 2.5 us": what there is of the bound's parts, the larger kinds
// first.
std::string BoundParts(const v1::ErrorBound& bound) {
  std::vector<std::string> parts;
  const auto single = [&parts](const char* name, uint64_t part_ns) {
    if (part_ns != 0) parts.push_back(absl::StrCat(name, " ", HumanUnsignedNs(part_ns)));
  };
  const auto pair = [&parts](const char* name, uint64_t source_ns, uint64_t destination_ns) {
    if (source_ns == 0 && destination_ns == 0) return;
    parts.push_back(absl::StrCat(name, " ", HumanUnsignedNs(source_ns), " + ",
                                 HumanUnsignedNs(destination_ns)));
  };
  single("probe", bound.probe_ns());
  pair("clocks", bound.source_clock_ns(), bound.destination_clock_ns());
  pair("readings", bound.source_read_ns(), bound.destination_read_ns());
  single("rate", bound.rate_ns());
  single("rounding", bound.rounding_ns());
  return absl::StrJoin(parts, ", ");
}

void AddErrorBound(const v1::SetTscStateResponse& apply, const Palette& palette, Facts* facts) {
  if (!apply.has_error_bound()) {
    facts->Add("error bound", palette.Yellow("none: no trusted clock was used"));
    return;
  }
  const std::string parts = BoundParts(apply.error_bound());
  facts->Add("error bound", palette.Bold(PlusMinus(apply.error_bound().total_ns())) +
                                (parts.empty() ? "" : " = " + parts));
}

std::string BasisText(const v1::SetTscStateResponse& apply) {
  switch (apply.elapsed_basis()) {
    case v1::ELAPSED_BASIS_CLOCKS:
      // The probe was wider than the claims, but it could have contradicted them.
      return apply.has_probe() ? "clocks: what both hosts claim of theirs, and the probe bears out"
                               : "clocks: what both hosts claim of theirs";
    case v1::ELAPSED_BASIS_CLOCKS_AND_PROBE:
      return "clocks and probe: what both hosts claim, narrowed by what was measured";
    case v1::ELAPSED_BASIS_SAME_HOST_TSC:
      return "this host's TSC: captured on the destination's host, in this boot";
    default:
      return "the agent does not say";
  }
}

void AddElapsed(const v1::SetTscStateResponse& apply, const Palette& palette, Facts* facts) {
  if (apply.elapsed_basis() == v1::ELAPSED_BASIS_UNSPECIFIED && apply.elapsed_ns() == 0 &&
      apply.elapsed_ticks() == 0) {
    facts->Add("elapsed", "0: guest time goes on from the captured values");
    return;
  }
  facts->Add("elapsed",
             absl::StrCat(HumanNs(apply.elapsed_ns()), " (", SignedThousands(apply.elapsed_ns()),
                          " ns, ", TicksText(apply.elapsed_ticks()), ")"));
  facts->Add("reckoned by", BasisText(apply));
  if (apply.has_probe()) facts->Add("probe", ProbeText(apply.probe()));
  AddErrorBound(apply, palette, facts);
  if (apply.commit_wait_ns() > 0) {
    facts->Add("waited", HumanUnsignedNs(apply.commit_wait_ns()) +
                             ", until it was certain that time had passed");
  }
}

void AddRateError(const v1::SetTscStateResponse& apply, Facts* facts) {
  if (apply.rate_error_ppm() == 0) return;
  facts->Add("rate error", absl::StrFormat("%+.4g ppm: KVM does not scale here, so the guest runs "
                                           "at the host's rate",
                                           apply.rate_error_ppm()));
}

std::string KvmClockText(const v1::KvmClockResult& kvmclock) {
  if (!kvmclock.moved()) return "left alone";
  return absl::StrCat("moved along, error ", SignedNs(kvmclock.error_ns()), " ",
                      PlusMinus(kvmclock.read_error_ns()), ", master clock ",
                      kvmclock.master_clock() ? "on" : "off");
}

std::string HumanDuration(absl::Duration duration) {
  return HumanNs(absl::ToInt64Nanoseconds(duration));
}

std::string TimeTaken(const client::HandoffReport& report) {
  return absl::StrCat(HumanDuration(report.handoff), " = capture ", HumanDuration(report.get_rpc),
                      " + apply ", HumanDuration(report.set_rpc), " + commits ",
                      HumanDuration(report.commits), "; ", HumanDuration(report.total),
                      " with connecting and checking");
}

}  // namespace

void PrintHost(const v1::HostInfo& host, Io& io) {
  const Palette& palette = io.out_palette;
  Facts facts;
  facts.Add("host", palette.Bold(Printable(host.host_name())));
  facts.Add("agent version", Printable(host.agent_version()));
  facts.Add("kernel", Printable(host.kernel_release()));
  facts.Add("boot id", Hex(host.boot_id()));
  facts.Add("KVM available", YesOrNo(host.kvm_available(), host.kvm_unavailable_reason(), palette));
  facts.Add("TSC stable", YesOrNo(host.tsc_stable(), host.tsc_unstable_reason(), palette));
  facts.Add("TSC frequency", host.tsc_khz() == 0 ? "not known" : Khz(host.tsc_khz()));
  facts.Add("TSC scaling", host.tsc_scaling() ? absl::StrCat("yes, ", host.tsc_scaling_frac_bits(),
                                                             " fraction bits")
                                              : "no: guests must have this host's frequency");
  AddClockFacts(host.clock(), palette, &facts);
  facts.Add("peer address", host.peer_address().empty()
                                ? "none: no other agent can be told where to probe this clock"
                                : Printable(host.peer_address()));
  facts.Add("VMs", Thousands(host.vm_count()));
  if (host.simulated()) facts.Add("simulated", palette.Yellow("yes: nothing here is real"));
  facts.Print(io.out);
}

void PrintState(const client::StateView& state, size_t state_bytes, Io& io) {
  Table table({{"VCPU", Align::kRight},
               {"GUEST TSC (ticks)", Align::kRight},
               {absl::StrCat("AHEAD OF VCPU ", state.vcpus[0].id, " (ticks)"), Align::kRight},
               {"TSC_ADJUST (ticks)", Align::kRight},
               {"TSC DEADLINE (ticks)", Align::kRight}});
  for (const client::VcpuView& vcpu : state.vcpus) {
    table.Add({absl::StrCat(vcpu.id), Thousands(vcpu.guest_tsc_ticks),
               SignedThousands(
                   client::TickDifference(vcpu.guest_tsc_ticks, state.vcpus[0].guest_tsc_ticks)),
               SignedThousands(vcpu.tsc_adjust_ticks), Deadline(vcpu.tsc_deadline_ticks)});
  }
  table.Print(io.out_palette, io.out);

  Facts facts;
  facts.Add("VM", io.out_palette.Bold(Printable(state.vm_id)) +
                      absl::StrCat(", ", state.vcpus.size(), " vCPUs"));
  facts.Add("guest TSC frequency", Khz(state.guest_tsc_khz));
  facts.Add("phase spread", TicksText(client::PhaseSpreadTicks(state)));
  if (state.reference.has_value()) {
    const v1::TimeReference& reference = *state.reference;
    facts.Add("captured", absl::StrCat(HumanTime(reference.realtime_ns()), " ",
                                       PlusMinus(reference.read_error_ns())));
    facts.Add("source clock", SourceClock(reference, io.out_palette));
  } else {
    facts.Add("captured",
              io.out_palette.Yellow("at an unknown time: can only be applied with --mode exact"));
  }
  facts.Add("kvmclock", state.kvmclock.has_value()
                            ? absl::StrCat(Thousands(state.kvmclock->kvmclock_ns()), " ns ",
                                           PlusMinus(state.kvmclock->read_error_ns()))
                            : "not in the state");
  facts.Add("size",
            absl::StrCat(Thousands(state_bytes), " bytes, format version ", state.format_version));
  io.out << "\n";
  facts.Print(io.out);
}

void PrintApply(const client::HandoffReport& report, Io& io) {
  const v1::SetTscStateResponse& apply = report.apply;
  Table table({{"VCPU", Align::kRight},
               {"GUEST TSC BEFORE", Align::kRight},
               {"GUEST TSC AFTER", Align::kRight},
               {"OFFSET AFTER", Align::kRight},
               {"PHASE ERROR", Align::kRight}});
  for (int i = 0; i < apply.vcpus_size(); ++i) {
    const v1::VcpuResult& vcpu = apply.vcpus(i);
    const auto index = static_cast<size_t>(i);
    table.Add({absl::StrCat(vcpu.vcpu_id()),
               Thousands(report.captured_state.vcpus[index].guest_tsc_ticks),
               Thousands(vcpu.guest_tsc_ticks()),
               SignedThousands(static_cast<int64_t>(vcpu.offset_after_ticks())),
               SignedThousands(report.phase_change_ticks[index])});
  }
  io.out << "All in ticks of " << Khz(report.captured_state.guest_tsc_khz) << ".\n";
  table.Print(io.out_palette, io.out);

  const Palette& palette = io.out_palette;
  Facts facts;
  const std::string phase = TicksText(report.phase_error_ticks);
  facts.Add("phase error", report.phase_error_ticks == 0 ? palette.Green(phase + ", exact")
                                                         : palette.Yellow(phase));
  AddElapsed(apply, palette, &facts);
  AddRateError(apply, &facts);
  facts.Add("kvmclock", KvmClockText(apply.kvmclock()));
  // Not measured where the state came from a file.
  if (report.handoff > absl::ZeroDuration()) facts.Add("time taken", TimeTaken(report));
  io.out << "\n";
  facts.Print(io.out);
}

void PrintWarnings(absl::string_view side,
                   const google::protobuf::RepeatedPtrField<v1::Warning>& warnings, Io& io) {
  for (const v1::Warning& warning : warnings) {
    io.out << io.out_palette.Yellow("warning") << " (" << side
           << "): " << Printable(warning.message()) << "\n";
  }
}

}  // namespace tsc_handoff::tscctl
