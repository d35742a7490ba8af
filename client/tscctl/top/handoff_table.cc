#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/tscctl/format.h"
#include "client/tscctl/names.h"
#include "client/tscctl/top/tables.h"
#include "client/tscctl/top/text.h"
#include "client/tscctl/watch/events.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

// The other end's host, or, where its agent is not among those asked, the beginning of its
// identity.
std::string PeerName(const Snapshot& snapshot, const v1::Handoff& handoff) {
  const std::string& id = handoff.side() == v1::Handoff::SIDE_SOURCE
                              ? handoff.ticket().destination_agent_id()
                              : handoff.ticket().source_agent_id();
  if (id.empty()) return "?";
  const AgentView* agent = FindAgent(snapshot, id);
  return agent != nullptr ? NameOf(*agent) : "agent " + Hex(id).substr(0, 8);
}

struct Verdict {
  Severity severity = Severity::kNormal;
  std::string note = {};
};

Verdict Judge(const v1::Handoff& handoff) {
  if (handoff.undecided()) return {Severity::kBad, "UNDECIDED: resume/abort"};
  if (handoff.vm_lost()) return {Severity::kBad, "its VM is not there"};
  if (handoff.state() == v1::Handoff::STATE_ABORTED &&
      handoff.side() == v1::Handoff::SIDE_DESTINATION && !handoff.restored())
    return {Severity::kWarning, "aborted, its VM not restored yet"};
  return {};
}

Cell StateCell(const v1::Handoff& handoff, Severity severity) {
  const bool arrived = handoff.state() == v1::Handoff::STATE_ACTIVE ||
                       handoff.state() == v1::Handoff::STATE_RELEASED;
  return {.text = HandoffStateName(handoff.state()),
          .look = severity == Severity::kBad                      ? Look::kBad
                  : arrived                                       ? Look::kGood
                  : handoff.state() == v1::Handoff::STATE_ABORTED ? Look::kWarning
                                                                  : Look::kPlain};
}

Cell Duration(std::optional<uint64_t> ns, Look look) {
  if (!ns.has_value()) return {.text = "-"};
  return {.text = ShortNs(*ns), .look = look, .number = static_cast<double>(*ns)};
}

Row HandoffRow(const Snapshot& snapshot, size_t index, const v1::Handoff& handoff,
               const Moment& now) {
  const AgentView& agent = snapshot.agents[index];
  const bool pending = IsPending(handoff.state());
  const Verdict verdict = Judge(handoff);
  const Look alarm = verdict.severity == Severity::kBad ? Look::kBad : Look::kPlain;
  Row row{.id = {.agent = index, .name = handoff.handoff_id(), .side = handoff.side()},
          .severity = verdict.severity,
          .past = !pending || !agent.error.empty()};
  row.cells.push_back({.text = AsciiText(handoff.vm_id()), .look = Look::kBold});
  row.cells.push_back({.text = NameOf(agent)});
  row.cells.push_back({.text = HandoffSideName(handoff.side())});
  row.cells.push_back(StateCell(handoff, verdict.severity));
  row.cells.push_back({.text = PeerName(snapshot, handoff)});
  row.cells.push_back(Duration(ElapsedNs(agent, handoff, now), alarm));
  row.cells.push_back(
      Duration(pending ? std::optional<uint64_t>(handoff.silent_ns()) : std::nullopt, alarm));
  row.cells.push_back({.text = absl::StrCat(handoff.ticket().epoch()),
                       .number = static_cast<double>(handoff.ticket().epoch())});
  row.cells.push_back({.text = AsciiText(handoff.handoff_id())});
  row.cells.push_back({.text = verdict.note,
                       .look = verdict.severity == Severity::kBad ? Look::kBad : Look::kWarning});
  return row;
}

}  // namespace

TopTable HandoffTable(const Snapshot& snapshot, const Moment& now) {
  TopTable table;
  table.columns = {{.title = "VM"},
                   {.title = "HOST", .leave_out = 1},
                   {.title = "SIDE", .leave_out = 3},
                   {.title = "STATE"},
                   {.title = "PEER", .leave_out = 4},
                   {.title = "ELAPSED", .right = true},
                   {.title = "SILENT", .right = true, .leave_out = 5},
                   {.title = "EPOCH", .right = true, .leave_out = 7},
                   {.title = "HANDOFF", .leave_out = 6},
                   {.title = "NOTE", .leave_out = 2, .stretches = true}};
  for (size_t i = 0; i < snapshot.agents.size(); ++i) {
    for (const v1::Handoff& handoff : snapshot.agents[i].handoffs)
      table.rows.push_back(HandoffRow(snapshot, i, handoff, now));
  }
  // What goes on before what is over; within both as the agents have it, the last begun first.
  std::stable_sort(table.rows.begin(), table.rows.end(),
                   [](const Row& a, const Row& b) { return a.past < b.past; });
  return table;
}

}  // namespace tsc_handoff::tscctl
