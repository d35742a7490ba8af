#include "client/tscctl/result.h"

#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

ExitCode ExitCodeOf(const absl::Status& status) {
  if (client::IsOutcomeUnknown(status)) return ExitCode::kNoAnswer;
  if (client::IsUnreachable(status)) return ExitCode::kUnreachable;
  if (absl::IsDeadlineExceeded(status) && !client::IsFromAgent(status)) return ExitCode::kNoAnswer;
  return ExitCode::kRefused;
}

// The documented reason, or a name in its style for what arose on this side.
std::string ReasonText(const Failure& failure) {
  if (!failure.reason.empty()) return failure.reason;
  const std::string reason = client::ReasonNameOf(failure.status);
  if (!reason.empty()) return reason;
  switch (failure.exit_code) {
    case ExitCode::kUsage:
      return "USAGE";
    case ExitCode::kUnreachable:
      return "AGENT_UNREACHABLE";
    case ExitCode::kNoAnswer:
      return "NO_ANSWER";
    case ExitCode::kLocalFile:
      return "LOCAL_FILE";
    default:
      return absl::StatusCodeToString(failure.status.code());
  }
}

std::string NextStepText(const Failure& failure) {
  return failure.next_step.empty() ? client::NextStepOf(failure.status) : failure.next_step;
}

// Agents end their message with the next step, for clients that show nothing else.
std::string MessageText(const Failure& failure) {
  absl::string_view text = failure.status.message();
  absl::ConsumeSuffix(&text, absl::StrCat(". ", client::NextStepOf(failure.status)));
  return std::string(text);
}

void PrintFailureAsJson(const Failure& failure, Io& io) {
  const Explanation why = Explain(failure);
  nlohmann::ordered_json error;
  error["exit_code"] = static_cast<int>(failure.exit_code);
  error["code"] = absl::StatusCodeToString(failure.status.code());
  error["reason"] = why.reason;
  error["message"] = why.message;
  error["next_step"] = why.next_step;
  error["outcome_unknown"] = client::IsOutcomeUnknown(failure.status);
  error["situation"] = failure.situation;
  error["metadata"] = nlohmann::ordered_json::object();
  for (const auto& [key, value] : client::MetadataOf(failure.status))
    error["metadata"][key] = value;
  nlohmann::ordered_json object;
  object["error"] = std::move(error);
  io.err << DumpJson(object) << "\n";
}

}  // namespace

Failure CallFailure(const absl::Status& status, absl::string_view doing) {
  return {.status = client::Annotate(status, doing), .exit_code = ExitCodeOf(status)};
}

Failure FileFailure(const absl::Status& status, absl::string_view next_step) {
  return {.status = status, .exit_code = ExitCode::kLocalFile, .next_step = std::string(next_step)};
}

Failure UsageFailure(absl::string_view message, absl::string_view help_command) {
  return {.status = absl::InvalidArgumentError(message),
          .exit_code = ExitCode::kUsage,
          .next_step = absl::StrCat("See `", help_command, "`.")};
}

Explanation Explain(const Failure& failure) {
  return {ReasonText(failure), MessageText(failure), NextStepText(failure)};
}

void PrintFailure(const Failure& failure, Io& io) {
  if (io.json) {
    PrintFailureAsJson(failure, io);
    return;
  }
  const Explanation why = Explain(failure);
  io.err << io.err_palette.Red("tscctl: ") << Printable(why.message) << "\n";
  if (failure.exit_code != ExitCode::kUsage) {
    io.err << "reason: " << Printable(why.reason);
    std::string separator = " (";
    std::string end;
    for (const auto& [key, value] : client::MetadataOf(failure.status)) {
      if (key == "next_step") continue;
      io.err << separator << Printable(key) << "=" << Printable(value);
      separator = ", ";
      end = ")";
    }
    io.err << end << "\n";
  }
  if (!failure.situation.empty()) io.err << "state: " << Printable(failure.situation) << "\n";
  io.err << "next: " << Printable(why.next_step) << "\n";
}

}  // namespace tsc_handoff::tscctl
