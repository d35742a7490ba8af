#include "client/tscctl/handoff_commands.h"

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/handoff.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/json_output.h"
#include "client/tscctl/names.h"
#include "client/tscctl/report.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using client::AgentClient;
using client::HandoffEnd;
using client::HandoffGoal;

absl::string_view StepName(client::HandoffStep step) {
  switch (step) {
    case client::HandoffStep::kCheck:
      return "look at both VMs";
    case client::HandoffStep::kAsk:
      return "ask both agents";
    case client::HandoffStep::kCapture:
      return "capture on the source";
    case client::HandoffStep::kApply:
      return "apply on the destination";
    case client::HandoffStep::kCommitSource:
      return "release on the source";
    case client::HandoffStep::kCommitDestination:
      return "let it run on the destination";
    case client::HandoffStep::kAbortSource:
      return "abort on the source";
    case client::HandoffStep::kAbortDestination:
      return "abort on the destination";
  }
  return "?";
}

void PrintProgress(const client::HandoffProgress& progress, Io& io) {
  using Event = client::HandoffProgress::Event;
  if (progress.event == Event::kStarted) return;
  io.err << (progress.event == Event::kDone ? io.err_palette.Green("done  ")
                                            : io.err_palette.Red("failed"))
         << "  " << StepName(progress.step) << "  "
         << HumanNs(absl::ToInt64Nanoseconds(progress.duration)) << "\n";
}

const char* HelpOf(Command command) {
  switch (command) {
    case Command::kResume:
      return "tscctl resume --help";
    case Command::kAbort:
      return "tscctl abort --help";
    default:
      return "tscctl handoff --help";
  }
}

std::string Doing(const Options& options) {
  switch (options.command) {
    case Command::kResume:
      return absl::StrCat("resume ", options.handoff_id);
    case Command::kAbort:
      return absl::StrCat("abort ", options.handoff_id);
    default:
      return absl::StrCat("handoff ", options.vm);
  }
}

client::HandoffRequest RequestOf(const Options& options, Io& io) {
  client::HandoffRequest request;
  request.goal = options.command == Command::kResume  ? HandoffGoal::kResume
                 : options.command == Command::kAbort ? HandoffGoal::kAbort
                                                      : HandoffGoal::kFinish;
  request.handoff_id = options.handoff_id;
  request.source_vm_id = options.vm;
  request.apply = options.apply;
  request.probe = options.probe;
  if (io.show_progress) {
    request.progress = [&io](const client::HandoffProgress& progress) {
      PrintProgress(progress, io);
    };
  }
  return request;
}

Failure FailureOf(const Options& options, const client::HandoffReport& report) {
  Failure failure = CallFailure(report.status, Doing(options));
  failure.situation = report.situation;
  failure.next_step = ProbeAdvice(report.status, options);
  if (report.end != HandoffEnd::kPending || report.handoff_id.empty()) return failure;
  failure.next_step =
      absl::StrCat("Go on with `", ResumeCommand(report.handoff_id, options.from, options.to), "`");
  // What the source was heard to have decided stands.
  const bool open =
      !report.source.has_value() || report.source->state() == v1::Handoff::STATE_CAPTURED;
  if (open && options.command != Command::kAbort) {
    absl::StrAppend(&failure.next_step,
                    ", or give it up, as long as it is not released: `tscctl abort ",
                    report.handoff_id, " --from ", options.from, " --to ", options.to, "`");
  }
  failure.next_step += ".";
  return failure;
}

}  // namespace

std::string ResumeCommand(const std::string& handoff_id, const std::string& from,
                          const std::string& to) {
  return absl::StrCat("tscctl resume ", handoff_id, " --from ", from, " --to ", to);
}

// What to do about the probe with this program's options, which the agent does not know; empty
// where the failure is about something else.
std::string ProbeAdvice(const absl::Status& status, const Options& options) {
  const bool no_answer = client::ReasonOf(status) == v1::PEER_UNREACHABLE;
  const std::map<std::string, std::string> metadata = client::MetadataOf(status);
  const auto field = metadata.find("field");
  const bool not_named = client::ReasonOf(status) == v1::REQUEST_INVALID &&
                         field != metadata.end() && field->second == "source_agent";
  if (!no_answer && !not_named) return "";
  const bool is_handoff = options.command != Command::kSet;
  std::string advice = absl::StrCat(
      "Name the source's agent as the destination's reaches it, with --source-agent HOST:PORT",
      is_handoff ? ", or start it with --peer-address HOST:PORT." : ".");
  if (no_answer) {
    absl::StrAppend(&advice, is_handoff ? " With --no-probe" : " Without that option",
                    " both hosts' word is taken for their clocks.");
  }
  return advice;
}

Result RunHandoff(const Options& options, Io& io) {
  absl::StatusOr<std::unique_ptr<AgentClient>> source = ConnectTo(options.from, options);
  if (!source.ok()) return UsageFailure(source.status().message(), HelpOf(options.command));
  absl::StatusOr<std::unique_ptr<AgentClient>> destination = ConnectTo(options.to, options);
  if (!destination.ok())
    return UsageFailure(destination.status().message(), HelpOf(options.command));

  client::HandoffRequest request = RequestOf(options, io);
  if (request.goal == HandoffGoal::kFinish && request.handoff_id.empty())
    request.handoff_id = client::NewHandoffId();
  // Before anything is begun, so that whoever interrupts this knows what to resume.
  if (request.goal == HandoffGoal::kFinish && !options.apply.validate_only() && io.show_progress)
    io.err << "handoff " << Printable(request.handoff_id) << "\n" << std::flush;
  const client::HandoffReport report = client::Handoff(**source, **destination, request);
  if (!report.status.ok()) return FailureOf(options, report);
  if (io.json) {
    io.out << HandoffAsJson(options, report);
    return std::nullopt;
  }
  if (!report.captured_state.vcpus.empty() && report.applied.has_value()) PrintApply(report, io);
  PrintWarnings("source", report.capture.warnings(), io);
  PrintWarnings("destination", report.apply.warnings(), io);
  io.out << io.out_palette.Bold(Printable(report.situation)) << "\n";
  return std::nullopt;
}

Result RunHandoffs(const Options& options, AgentClient& agent, Io& io) {
  const auto handoffs = agent.ListHandoffs({options.vm, options.pending, options.stuck});
  if (!handoffs.ok()) return CallFailure(handoffs.status(), "handoffs");
  if (io.json) {
    v1::ListHandoffsResponse response;
    for (const v1::Handoff& handoff : *handoffs) *response.add_handoffs() = handoff;
    io.out << MessageAsJson(response);
    return std::nullopt;
  }
  if (handoffs->empty()) {
    io.out << (options.stuck     ? "Nothing is stuck"
               : options.pending ? "Nothing is pending"
                                 : "No handoffs are remembered")
           << " at " << Printable(agent.target()) << ".\n";
    return std::nullopt;
  }
  using Align = Table::Align;
  Table table({{"HANDOFF"},
               {"SIDE"},
               {"STATE"},
               {"VM"},
               {"EPOCH", Align::kRight},
               {"CHANGED"},
               {"SILENT", Align::kRight}});
  for (const v1::Handoff& handoff : *handoffs) {
    const std::string silent =
        handoff.silent_ns() == 0 ? "-" : HumanUnsignedNs(handoff.silent_ns());
    const int64_t changed_ns = handoff.changed_at_ns();
    table.Add({Printable(handoff.handoff_id()), HandoffSideName(handoff.side()),
               HandoffStateName(handoff.state()), Printable(handoff.vm_id()),
               Thousands(handoff.ticket().epoch()),
               changed_ns <= 0 ? "?" : HumanTime(static_cast<uint64_t>(changed_ns)),
               handoff.undecided() ? io.out_palette.Red(silent + ", stuck") : silent});
  }
  table.Print(io.out_palette, io.out);
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
