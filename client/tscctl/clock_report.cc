#include "client/tscctl/clock_report.h"

#include "absl/strings/str_cat.h"
#include "client/tscctl/names.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Align = Table::Align;

std::string StatusText(v1::ClockInfo::Status status) {
  switch (status) {
    case v1::ClockInfo::STATUS_FREE_RUNNING:
      return "free-running: its source is silent or has lost its own reference";
    case v1::ClockInfo::STATUS_DISRUPTED:
      return "disrupted: it was stepped, and its source has not been heard since";
    default:
      return ClockStatusName(status);
  }
}

// How long ago the source last stated a bound.
std::string AgeText(const v1::ClockInfo& clock) {
  if (clock.age_ns() == 0 && !clock.trusted()) return "never";
  return HumanUnsignedNs(clock.age_ns()) + " ago";
}

std::string SourceName(const v1::ClockInfo& clock) {
  return clock.source().empty() ? "none" : Printable(clock.source());
}

// "300.000 ms +-120 ns behind": a sign would have to be read twice.
std::string Apart(const v1::ClockProbe& probe) {
  const bool behind = probe.offset_ns() < 0;
  return absl::StrCat(HumanUnsignedNs(Absolute(probe.offset_ns())), " ",
                      PlusMinus(probe.offset_error_ns()), behind ? " behind " : " ahead of ");
}

std::string Rounds(uint32_t rounds) {
  return absl::StrCat(Thousands(rounds), rounds == 1 ? " round" : " rounds");
}

void PrintClaims(const ClockComparison& comparison, const Labels& labels, Io& io) {
  Table table({{"HOST"},
               {"TRUSTED"},
               {"STATUS"},
               {"CLAIMS", Align::kRight},
               {"STATED", Align::kRight},
               {"SOURCE"}});
  const auto row = [&table](const std::string& label, const v1::ClockInfo& clock) {
    table.Add({Printable(label), clock.trusted() ? "yes" : "no", ClockStatusName(clock.status()),
               clock.trusted() ? PlusMinus(clock.error_bound_ns()) : "-", AgeText(clock),
               SourceName(clock)});
  };
  row(labels.local, comparison.answer.local());
  row(labels.peer, comparison.answer.peer());
  table.Print(io.out_palette, io.out);
}

void PrintDistrust(const std::string& label, const v1::ClockInfo& clock, Io& io) {
  if (clock.trusted() || clock.untrusted_reason().empty()) return;
  io.out << io.out_palette.Yellow("not trusted") << " (" << Printable(label)
         << "): " << Printable(clock.untrusted_reason()) << "\n";
}

std::string InColour(v1::CompareClocksResponse::Verdict verdict, const std::string& text,
                     const Palette& palette) {
  if (verdict == v1::CompareClocksResponse::VERDICT_AGREE) return palette.Green(text);
  if (verdict == v1::CompareClocksResponse::VERDICT_DISAGREE) return palette.Red(text);
  return palette.Yellow(text);
}

}  // namespace

void AddClockFacts(const v1::ClockInfo& clock, const Palette& palette, Facts* facts) {
  facts->Add("clock trusted", YesOrNo(clock.trusted(), clock.untrusted_reason(), palette));
  const bool synchronised = clock.status() == v1::ClockInfo::STATUS_SYNCHRONISED;
  const std::string status = StatusText(clock.status());
  facts->Add("clock status", synchronised ? status : palette.Yellow(status));
  if (clock.trusted()) facts->Add("clock error", PlusMinus(clock.error_bound_ns()));
  facts->Add("clock source", absl::StrCat(SourceName(clock), ", last word ", AgeText(clock)));
  facts->Add("TAI - UTC", clock.tai_offset_s() == 0
                              ? "not known: a leap second during a handoff would move guest time"
                              : absl::StrCat(clock.tai_offset_s(), " s"));
  facts->Add("leap second", clock.leap_second()
                                ? palette.Yellow("pending, in progress or only just over")
                                : "none near");
}

void PrintClock(const v1::HostInfo& host, Io& io) {
  Facts facts;
  facts.Add("host", io.out_palette.Bold(Printable(host.host_name())));
  AddClockFacts(host.clock(), io.out_palette, &facts);
  if (host.clock().realtime_ns() > 0)
    facts.Add("clock read", HumanTime(static_cast<uint64_t>(host.clock().realtime_ns())));
  if (host.simulated()) facts.Add("simulated", io.out_palette.Yellow("yes: nothing here is real"));
  facts.Print(io.out);
}

void PrintComparison(const ClockComparison& comparison, Io& io) {
  const v1::CompareClocksResponse& answer = comparison.answer;
  const Labels labels = LabelsOf(comparison);
  PrintClaims(comparison, labels, io);
  PrintDistrust(labels.local, answer.local(), io);
  PrintDistrust(labels.peer, answer.peer(), io);

  Facts facts;
  facts.Add("measured", io.out_palette.Bold(Printable(labels.local) + " is " +
                                            Apart(answer.probe()) + Printable(labels.peer)));
  if (answer.local().trusted() && answer.peer().trusted()) {
    facts.Add("allowed", PlusMinus(AllowedDifferenceNs(answer)) +
                             ": both claims and the measurement's own error");
  }
  facts.Add("round trip", absl::StrCat(HumanUnsignedNs(answer.probe().round_trip_ns()),
                                       ", the shortest of ", Rounds(answer.probe().rounds()),
                                       " in ", HumanUnsignedNs(answer.probe().duration_ns())));
  facts.Add("probed at", Printable(comparison.probed_at));
  io.out << "\n";
  facts.Print(io.out);
  io.out << "\n"
         << InColour(answer.verdict(), Printable(VerdictText(comparison)), io.out_palette) << "\n";
}

std::string ProbeText(const v1::ClockProbe& probe) {
  return absl::StrCat("the destination's clock is ", Apart(probe), "the source's; round trip ",
                      HumanUnsignedNs(probe.round_trip_ns()), ", ", Rounds(probe.rounds()));
}

}  // namespace tsc_handoff::tscctl
