#include "client/tscctl/commands.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/agent_client.h"
#include "client/lib/handoff.h"
#include "client/lib/rpc_error.h"
#include "client/lib/state_view.h"
#include "client/tscctl/clock_command.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/json_output.h"
#include "client/tscctl/report.h"
#include "client/tscctl/state_file.h"
#include "server/base/version.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using client::AgentClient;

Result RunHost(AgentClient& agent, Io& io) {
  absl::StatusOr<v1::HostInfo> host = agent.GetHostInfo();
  if (!host.ok()) return CallFailure(host.status(), "host");
  if (io.json) {
    v1::GetHostInfoResponse response;
    *response.mutable_host() = *std::move(host);
    io.out << MessageAsJson(response);
  } else {
    PrintHost(*host, io);
  }
  return std::nullopt;
}

Result RunVms(AgentClient& agent, Io& io) {
  absl::StatusOr<std::vector<v1::Vm>> vms = agent.ListVms();
  if (!vms.ok()) return CallFailure(vms.status(), "vms");
  if (io.json) {
    v1::ListVmsResponse response;
    for (v1::Vm& vm : *vms) *response.add_vms() = std::move(vm);
    io.out << MessageAsJson(response);
  } else {
    PrintVms(*vms, agent.target(), io);
  }
  return std::nullopt;
}

Failure NotWritten(const absl::Status& status) {
  return FileFailure(status,
                     absl::IsAlreadyExists(status)
                         ? "Choose another name, or replace it with --force."
                         : "Choose a directory that you may write to. The VM was only read.");
}

Result RunGet(const Options& options, AgentClient& agent, Io& io) {
  const bool to_file = !options.file.empty();
  // Early, so that nobody waits for a capture that cannot be kept.
  if (to_file && !options.force) {
    if (absl::Status free = CheckFree(options.file); !free.ok()) return NotWritten(free);
  }
  absl::StatusOr<v1::GetTscStateResponse> response = agent.GetTscState(options.vm);
  if (!response.ok()) return CallFailure(response.status(), absl::StrCat("get ", options.vm));
  if (to_file) {
    absl::Status written = WriteStateFile(options.file, response->state(), options.force);
    if (!written.ok()) return NotWritten(written);
  }
  if (io.json) {
    io.out << MessageAsJson(*response);
    return std::nullopt;
  }
  const size_t state_bytes = response->state().ByteSizeLong();
  absl::StatusOr<client::StateView> state = client::DecodeState(response->state());
  if (state.ok()) {
    PrintState(*state, state_bytes, io);
  } else if (client::ReasonOf(state.status()) == v1::STATE_VERSION_UNSUPPORTED) {
    // Still good for `set`: only the showing fails.
    io.out << "The state cannot be shown: " << Printable(std::string(state.status().message()))
           << ".\n";
  } else {
    return CallFailure(state.status(), absl::StrCat("get ", options.vm));
  }
  PrintWarnings("source", response->warnings(), io);
  if (to_file)
    io.out << "Wrote " << state_bytes << " bytes to " << Printable(options.file) << ".\n";
  return std::nullopt;
}

std::string RepeatAdvice(const Options& options) {
  return absl::StrCat("Keep VM ", options.apply.vm_id(), " paused and repeat this command",
                      options.apply.mode() == v1::APPLY_MODE_ELAPSED
                          ? ": a second apply gives it the same TSCs."
                          : ": a second apply gives it the captured values again, as of then.",
                      " `tscctl ",
                      options.command == Command::kSet ? absl::StrCat("--agent ", options.agent)
                                                       : absl::StrCat("--agent ", options.to),
                      " get ", options.apply.vm_id(), "` shows what it has now.");
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
  const bool is_handoff = options.command == Command::kHandoff;
  std::string advice = absl::StrCat(
      "Name the source's agent as the destination's reaches it, with --source-agent HOST:PORT",
      is_handoff ? ", or start it with --peer-address HOST:PORT." : ".");
  if (no_answer) {
    absl::StrAppend(&advice, is_handoff ? " With --no-probe" : " Without that option",
                    " both hosts' word is taken for their clocks.");
  }
  return advice;
}

Result RunSet(const Options& options, AgentClient& agent, Io& io) {
  absl::StatusOr<v1::TscState> state = ReadStateFile(options.file);
  if (!state.ok()) {
    return FileFailure(state.status(),
                       "Give a file that `tscctl get --out` wrote. The VM was not touched.");
  }
  v1::SetTscStateRequest request = options.apply;
  *request.mutable_state() = *state;
  absl::StatusOr<v1::SetTscStateResponse> response = agent.SetTscState(request);
  const std::string doing = absl::StrCat("set ", options.vm);
  if (!response.ok()) {
    Failure failure = CallFailure(response.status(), doing);
    failure.next_step = ProbeAdvice(response.status(), options);
    if (client::IsOutcomeUnknown(response.status())) {
      failure.situation =
          absl::StrCat("VM ", options.vm, " may have the new TSCs or its old ones.");
      failure.next_step = RepeatAdvice(options);
    }
    return failure;
  }
  client::HandoffReport report;
  report.apply = *std::move(response);
  absl::StatusOr<client::StateView> view = client::DecodeState(*state);
  if (view.ok()) {
    report.captured_state = *std::move(view);
    if (absl::Status wrong = client::VerifyApplied(request.equalise(), &report); !wrong.ok()) {
      Failure failure = CallFailure(wrong, doing);
      failure.situation =
          absl::StrCat("Applied, but the result is wrong: do not run VM ", options.vm, ".");
      return failure;
    }
  }
  if (io.json) {
    io.out << ApplyAsJson(report.apply);
    return std::nullopt;
  }
  if (!report.captured_state.vcpus.empty()) PrintApply(report, io);
  PrintWarnings("destination", report.apply.warnings(), io);
  io.out << (report.apply.validated_only() ? "It would succeed; nothing was changed.\n"
                                           : "Applied and read back.\n");
  return std::nullopt;
}

absl::string_view StepName(client::HandoffStep step) {
  switch (step) {
    case client::HandoffStep::kCheck:
      return "look at both VMs";
    case client::HandoffStep::kCapture:
      return "capture on the source";
    case client::HandoffStep::kApply:
      return "apply on the destination";
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

Result RunHandoff(const Options& options, Io& io) {
  absl::StatusOr<std::unique_ptr<AgentClient>> source = ConnectTo(options.from, options);
  if (!source.ok()) return UsageFailure(source.status().message(), "tscctl handoff --help");
  absl::StatusOr<std::unique_ptr<AgentClient>> destination = ConnectTo(options.to, options);
  if (!destination.ok())
    return UsageFailure(destination.status().message(), "tscctl handoff --help");

  client::HandoffRequest request;
  request.source_vm_id = options.vm;
  request.apply = options.apply;
  request.probe = options.probe;
  if (io.show_progress) {
    request.progress = [&io](const client::HandoffProgress& progress) {
      PrintProgress(progress, io);
    };
  }
  const client::HandoffReport report = client::Handoff(**source, **destination, request);
  if (!report.status.ok()) {
    Failure failure = CallFailure(report.status, absl::StrCat("handoff ", options.vm));
    failure.situation = report.situation;
    failure.next_step = ProbeAdvice(report.status, options);
    if (report.stage == client::HandoffStage::kApplyUnknown)
      failure.next_step = RepeatAdvice(options);
    return failure;
  }
  if (io.json) {
    io.out << HandoffAsJson(options, report);
    return std::nullopt;
  }
  if (!report.captured_state.vcpus.empty()) PrintApply(report, io);
  PrintWarnings("source", report.capture.warnings(), io);
  PrintWarnings("destination", report.apply.warnings(), io);
  io.out << io.out_palette.Bold(Printable(report.situation)) << "\n";
  return std::nullopt;
}

Result RunDecode(const Options& options, Io& io) {
  absl::StatusOr<v1::TscState> state = ReadStateFile(options.file);
  absl::StatusOr<client::StateView> view =
      state.ok() ? client::DecodeState(*state) : state.status();
  if (!view.ok()) {
    const std::string next = client::IsFromAgent(view.status())
                                 ? client::NextStepOf(view.status())
                                 : "Give a file that `tscctl get --out` wrote.";
    return FileFailure(view.status(), next);
  }
  if (io.json) {
    io.out << StateAsJson(*view, state->ByteSizeLong());
  } else {
    PrintState(*view, state->ByteSizeLong(), io);
  }
  return std::nullopt;
}

Result RunVersion(Io& io) {
  io.out << (io.json ? VersionAsJson(tsc_handoff::kVersion)
                     : absl::StrCat("tscctl ", tsc_handoff::kVersion, "\n"));
  return std::nullopt;
}

}  // namespace

Result RunCommand(const Options& options, Io& io) {
  if (options.command == Command::kVersion) return RunVersion(io);
  if (options.command == Command::kDecode) return RunDecode(options, io);
  if (options.command == Command::kHandoff) return RunHandoff(options, io);
  if (options.command == Command::kClock) return RunClock(options, io);
  absl::StatusOr<std::unique_ptr<AgentClient>> agent = ConnectTo(options.agent, options);
  if (!agent.ok()) return UsageFailure(agent.status().message(), "tscctl --help");
  switch (options.command) {
    case Command::kHost:
      return RunHost(**agent, io);
    case Command::kVms:
      return RunVms(**agent, io);
    case Command::kGet:
      return RunGet(options, **agent, io);
    default:
      return RunSet(options, **agent, io);
  }
}

}  // namespace tsc_handoff::tscctl
