#include "client/tscctl/admin_commands.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/tscctl/format.h"
#include "client/tscctl/json_output.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr absl::Duration kLookEvery = absl::Milliseconds(100);

std::string Handoffs(uint32_t count) {
  return absl::StrCat(count, count == 1 ? " handoff" : " handoffs");
}

Failure StillOpen(const Options& options, uint32_t open) {
  Failure failure{absl::DeadlineExceededError(
      absl::StrCat(Handoffs(open), open == 1 ? " is" : " are", " still open after ",
                   absl::FormatDuration(options.wait)))};
  failure.exit_code = ExitCode::kRefused;
  failure.situation = "The agent begins no handoff and goes on with these.";
  failure.next_step =
      absl::StrCat("`tscctl --agent ", options.agent,
                   " handoffs --pending` shows them; finish or "
                   "undo them with tscctl resume or abort, and repeat this command.");
  return failure;
}

}  // namespace

Result RunDrain(const Options& options, client::AgentClient& agent, Io& io) {
  const absl::Time give_up_at = absl::Now() + options.wait;
  absl::StatusOr<v1::DrainResponse> response = agent.Drain(v1::DrainRequest::MODE_DRAIN);
  uint32_t told = 0;
  while (response.ok() && response->open_handoffs() > 0 && absl::Now() < give_up_at) {
    if (io.show_progress && response->open_handoffs() != told) {
      told = response->open_handoffs();
      io.err << "waiting for " << Handoffs(told) << "\n";
    }
    absl::SleepFor(kLookEvery);
    response = agent.Drain(v1::DrainRequest::MODE_DRAIN);
  }
  if (!response.ok()) return CallFailure(response.status(), "drain");
  if (response->open_handoffs() > 0) return StillOpen(options, response->open_handoffs());
  if (io.json) {
    io.out << MessageAsJson(*response);
  } else {
    io.out << "Drained: the agent begins no handoff, and none is open. `tscctl --agent "
           << options.agent << " undrain` has it begin again.\n";
  }
  return std::nullopt;
}

Result RunUndrain(const Options& /*options*/, client::AgentClient& agent, Io& io) {
  absl::StatusOr<v1::DrainResponse> response = agent.Drain(v1::DrainRequest::MODE_SERVE);
  if (!response.ok()) return CallFailure(response.status(), "undrain");
  if (io.json) {
    io.out << MessageAsJson(*response);
  } else {
    io.out << "Handoffs begin again.\n";
  }
  return std::nullopt;
}

Result RunReload(client::AgentClient& agent, Io& io) {
  absl::StatusOr<v1::ReloadResponse> response = agent.Reload();
  if (!response.ok()) return CallFailure(response.status(), "reload");
  if (io.json) {
    io.out << MessageAsJson(*response);
    return std::nullopt;
  }
  for (const std::string& setting : response->changed()) {
    io.out << "Changed: " << Printable(setting) << (setting.back() == ':' ? " (its default)" : "")
           << "\n";
  }
  for (const std::string& setting : response->needs_restart()) {
    io.out << "At the agent's next start: " << Printable(setting)
           << (setting.back() == ':' ? " (its default)" : "") << "\n";
  }
  if (response->changed().empty() && response->needs_restart().empty())
    io.out << "Read; nothing has changed.\n";
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
