#include "client/tscctl/commands.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/agent_client.h"
#include "client/lib/handoff.h"
#include "client/lib/rpc_error.h"
#include "client/lib/state_view.h"
#include "client/tscctl/admin_commands.h"
#include "client/tscctl/clock_command.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/context_commands.h"
#include "client/tscctl/evacuate.h"
#include "client/tscctl/handoff_commands.h"
#include "client/tscctl/json_output.h"
#include "client/tscctl/migrate_qemu.h"
#include "client/tscctl/ownership_commands.h"
#include "client/tscctl/report.h"
#include "client/tscctl/state_file.h"
#include "client/tscctl/top/top.h"
#include "client/tscctl/vm_report.h"
#include "client/tscctl/watch/watch.h"
#include "client/tscctl/whole_file.h"
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
                      " `tscctl --agent ", options.agent, " get ", options.apply.vm_id(),
                      "` shows what it has now.");
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
  if (options.command == Command::kHandoff || options.command == Command::kResume ||
      options.command == Command::kAbort)
    return RunHandoff(options, io);
  if (options.command == Command::kEvacuate) return RunEvacuate(options, io);
  if (options.command == Command::kTop) return RunTop(options, io);
  if (options.command == Command::kWatch) return RunWatch(options, io);
  if (options.command == Command::kMigrateQemu) return RunMigrateQemu(options, io);
  if (options.command == Command::kClock) return RunClock(options, io);
  if (options.command == Command::kContexts) return RunContexts(options, io);
  if (options.command == Command::kUseContext) return RunUseContext(options, io);
  absl::StatusOr<std::unique_ptr<AgentClient>> agent = ConnectTo(options.agent, options);
  if (!agent.ok()) return UsageFailure(agent.status().message(), "tscctl --help");
  switch (options.command) {
    case Command::kHost:
      return RunHost(**agent, io);
    case Command::kVms:
      return RunVms(**agent, io);
    case Command::kReclaim:
      return RunReclaim(options, **agent, io);
    case Command::kDisown:
      return RunDisown(options, **agent, io);
    case Command::kDrain:
      return RunDrain(options, **agent, io);
    case Command::kUndrain:
      return RunUndrain(options, **agent, io);
    case Command::kReload:
      return RunReload(**agent, io);
    case Command::kHandoffs:
      return RunHandoffs(options, **agent, io);
    case Command::kGet:
      return RunGet(options, **agent, io);
    default:
      return RunSet(options, **agent, io);
  }
}

}  // namespace tsc_handoff::tscctl
