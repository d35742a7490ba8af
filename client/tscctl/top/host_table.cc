#include <string>

#include "absl/strings/str_cat.h"
#include "client/tscctl/format.h"
#include "client/tscctl/names.h"
#include "client/tscctl/top/tables.h"
#include "client/tscctl/top/text.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

struct Verdict {
  Severity severity = Severity::kNormal;
  std::string note = {};
};

// The worst first: only one thing is told in a row, and the rest in its details.
Verdict Judge(const AgentView& agent) {
  const v1::HostInfo& host = agent.host;
  if (!agent.error.empty()) return {Severity::kBad, agent.error};
  if (!agent.answered.has_value()) return {Severity::kNormal, "connecting"};
  if (!host.journal_unavailable_reason().empty())
    return {Severity::kBad, "no journal: " + AsciiText(host.journal_unavailable_reason())};
  if (!host.kvm_available())
    return {Severity::kBad, "no KVM: " + AsciiText(host.kvm_unavailable_reason())};
  if (!host.tsc_stable())
    return {Severity::kBad, "TSC not stable: " + AsciiText(host.tsc_unstable_reason())};
  if (!host.clock().trusted())
    return {Severity::kBad, "clock not trusted: " + AsciiText(host.clock().untrusted_reason())};
  if (host.clock().status() == v1::ClockInfo::STATUS_FREE_RUNNING)
    return {Severity::kWarning, "its clock's source is silent"};
  if (host.clock().leap_second()) return {Severity::kWarning, "a leap second is near"};
  if (host.simulated()) return {Severity::kNormal, "simulated"};
  return {};
}

Cell ClockCell(const v1::ClockInfo& clock) {
  return {.text = ClockStatusName(clock.status()),
          .look = !clock.trusted()                                       ? Look::kBad
                  : clock.status() == v1::ClockInfo::STATUS_SYNCHRONISED ? Look::kGood
                                                                         : Look::kWarning};
}

Cell BoundCell(const v1::ClockInfo& clock) {
  if (!clock.trusted()) return {.text = "-"};
  return {.text = "+-" + ShortNs(clock.error_bound_ns()),
          .number = static_cast<double>(clock.error_bound_ns())};
}

Cell AgeCell(const v1::ClockInfo& clock) {
  if (clock.age_ns() == 0 && !clock.trusted()) return {.text = "never"};
  return {.text = ShortNs(clock.age_ns()), .number = static_cast<double>(clock.age_ns())};
}

// What it said last is no news while it does not answer.
Cell SeenCell(const AgentView& agent, const Moment& now) {
  if (!agent.answered.has_value()) return {.text = "never"};
  if (agent.error.empty()) return {.text = "now", .number = 0};
  const int64_t since_ns = NsBetween(*agent.answered, now.steady);
  return {.text = ShortNs(static_cast<uint64_t>(since_ns)) + " ago",
          .look = Look::kBad,
          .number = static_cast<double>(since_ns)};
}

Row HostRow(const Snapshot& snapshot, size_t index, const Moment& now) {
  const AgentView& agent = snapshot.agents[index];
  const v1::HostInfo& host = agent.host;
  const bool known = agent.answered.has_value();
  const bool away = !agent.error.empty();
  const Verdict verdict = Judge(agent);
  Row row{.id = {.agent = index}, .severity = verdict.severity, .past = away};
  row.cells.push_back({.text = NameOf(agent), .look = Look::kBold});
  row.cells.push_back(away    ? Cell{.text = "AWAY", .look = Look::kBad}
                      : known ? ClockCell(host.clock())
                              : Cell{.text = "?"});
  row.cells.push_back(known && !away ? BoundCell(host.clock()) : Cell{.text = "-"});
  row.cells.push_back(known && !away ? AgeCell(host.clock()) : Cell{.text = "-"});
  row.cells.push_back(known ? Cell{.text = absl::StrCat(host.vm_count()),
                                   .number = static_cast<double>(host.vm_count())}
                            : Cell{.text = "-"});
  row.cells.push_back(known && host.tsc_khz() != 0
                          ? Cell{.text = Thousands(host.tsc_khz()) + " kHz",
                                 .number = static_cast<double>(host.tsc_khz())}
                          : Cell{.text = "-"});
  row.cells.push_back(SeenCell(agent, now));
  row.cells.push_back({.text = AsciiText(agent.address)});
  row.cells.push_back({.text = verdict.note,
                       .look = verdict.severity == Severity::kBad       ? Look::kBad
                               : verdict.severity == Severity::kWarning ? Look::kWarning
                                                                        : Look::kDim});
  return row;
}

}  // namespace

TopTable HostTable(const Snapshot& snapshot, const Moment& now) {
  TopTable table;
  table.columns = {{.title = "HOST"},
                   {.title = "CLOCK"},
                   {.title = "BOUND", .right = true},
                   {.title = "AGE", .right = true, .leave_out = 2},
                   {.title = "VMS", .right = true, .leave_out = 3},
                   {.title = "TSC", .right = true, .leave_out = 5},
                   {.title = "SEEN", .right = true, .leave_out = 1},
                   {.title = "AGENT", .leave_out = 4},
                   {.title = "NOTE", .stretches = true}};
  for (size_t i = 0; i < snapshot.agents.size(); ++i)
    table.rows.push_back(HostRow(snapshot, i, now));
  return table;
}

}  // namespace tsc_handoff::tscctl
