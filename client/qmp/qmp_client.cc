#include "client/qmp/qmp_client.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"

namespace tsc_handoff::qmp {
namespace {

using Json = nlohmann::json;

// QEMU's longest answers, of queries that describe the whole schema, have some 200 KB.
constexpr size_t kMaxLineBytes = 1 << 20;
constexpr size_t kMaxEvents = 1024;
// Of what came, in messages.
constexpr size_t kShownBytes = 80;

absl::Duration SteadyNow() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// "" where it is not there or no text.
std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

absl::Status NoQmp(absl::string_view line) {
  return absl::DataLossError(absl::StrCat("what came is no QMP: ", line.substr(0, kShownBytes)));
}

std::string VersionOf(const Json& greeting) {
  const Json::json_pointer path("/QMP/version/qemu");
  if (!greeting.contains(path) || !greeting.at(path).is_object()) return "";
  const Json& version = greeting.at(path);
  std::string text;
  for (const char* part : {"major", "minor", "micro"}) {
    const auto found = version.find(part);
    if (found == version.end() || !found->is_number_integer()) return "";
    absl::StrAppend(&text, text.empty() ? "" : ".", found->get<int64_t>());
  }
  return text;
}

absl::Status Refusal(const std::string& command, const Json& error) {
  std::string said = error.is_object() ? TextOf(error, "desc") : "";
  if (said.empty()) said = "an error without words";
  const std::string text = absl::StrCat(command, ": ", said);
  return error.is_object() && TextOf(error, "class") == "CommandNotFound"
             ? absl::UnimplementedError(text)
             : absl::FailedPreconditionError(text);
}

}  // namespace

QmpClient::QmpClient(std::string address, LineSocket socket, absl::Duration timeout)
    : address_(std::move(address)), timeout_(timeout), socket_(std::move(socket)) {}

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::Connect(const QmpAddress& address,
                                                              absl::Duration timeout) {
  absl::StatusOr<LineSocket> socket = LineSocket::Connect(address, timeout);
  if (!socket.ok()) {
    return absl::Status(socket.status().code(), absl::StrCat("QEMU's monitor at ", address.text,
                                                             ": ", socket.status().message()));
  }
  std::unique_ptr<QmpClient> client(new QmpClient(address.text, *std::move(socket), timeout));
  if (absl::Status status = client->ShakeHands(); !status.ok()) return status;
  return client;
}

absl::Status QmpClient::ShakeHands() {
  absl::StatusOr<std::optional<Json>> greeting = Receive(absl::Now() + timeout_, false);
  if (!greeting.ok()) return Fail(greeting.status());
  if (!greeting->has_value()) {
    return Fail(absl::DeadlineExceededError(
        "no greeting in time; a monitor serves one client at a time, is another one connected?"));
  }
  if (!(*greeting)->contains("QMP")) return Fail(NoQmp((*greeting)->dump()));
  version_ = VersionOf(**greeting);
  return Execute("qmp_capabilities", Json::object()).status();
}

absl::StatusOr<Json> QmpClient::Execute(const std::string& command, const Json& arguments) {
  if (!broken_.ok()) return broken_;
  absl::StatusOr<Json> answer = Run(command, arguments);
  if (!answer.ok()) return Fail(answer.status());
  return answer;
}

absl::StatusOr<Json> QmpClient::Run(const std::string& command, const Json& arguments) {
  const absl::Time deadline = absl::Now() + timeout_;
  Json request = {{"execute", command}, {"id", ++last_id_}};
  if (!arguments.empty()) request["arguments"] = arguments;
  const std::string text =
      request.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) + "\n";
  if (absl::Status sent = socket_.Write(text, timeout_); !sent.ok()) return sent;
  while (true) {
    absl::StatusOr<std::optional<Json>> message = Receive(deadline, false);
    if (!message.ok()) return message.status();
    if (!message->has_value()) {
      return absl::DeadlineExceededError(
          absl::StrCat(command, ": no answer within ", absl::FormatDuration(timeout_)));
    }
    const Json& answer = **message;
    // An answer to what was given up before is no answer to this. A command that QEMU could not
    // even parse is refused without an id.
    const bool refused = answer.contains("error");
    const auto id = answer.find("id");
    const bool ours = id != answer.end() ? *id == last_id_ : refused;
    if (!ours) continue;
    if (refused) return Refusal(command, answer["error"]);
    if (answer.contains("return")) return answer["return"];
    return NoQmp(answer.dump());
  }
}

absl::StatusOr<std::optional<QmpEvent>> QmpClient::NextEvent(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (events_.empty()) {
    if (!broken_.ok()) return broken_;
    // An answer that comes here is one that was given up.
    const absl::StatusOr<std::optional<Json>> message = Receive(deadline, true);
    if (!message.ok()) return Fail(message.status());
    if (!message->has_value() && events_.empty()) return std::nullopt;
  }
  QmpEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

absl::StatusOr<std::optional<Json>> QmpClient::Receive(absl::Time deadline, bool until_event) {
  while (true) {
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    absl::StatusOr<std::optional<std::string>> line = socket_.ReadLine(kMaxLineBytes, left);
    if (!line.ok()) return line.status();
    if (!line->has_value()) return std::nullopt;
    Json message = Json::parse(**line, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!message.is_object()) return NoQmp(**line);
    if (!message.contains("event")) return message;
    if (absl::Status kept = Keep(message); !kept.ok()) return kept;
    if (until_event) return std::nullopt;
  }
}

absl::Status QmpClient::Keep(const Json& event) {
  const std::string name = TextOf(event, "event");
  if (name.empty()) return NoQmp(event.dump());
  if (events_.size() == kMaxEvents) {
    return absl::DataLossError(absl::StrCat("more than ", kMaxEvents, " events that nobody read"));
  }
  const auto data = event.find("data");
  events_.push_back(
      {name, data != event.end() && data->is_object() ? *data : Json::object(), SteadyNow()});
  return absl::OkStatus();
}

absl::Status QmpClient::Fail(const absl::Status& status) {
  absl::Status failure(status.code(),
                       absl::StrCat("QEMU's monitor at ", address_, ": ", status.message()));
  if (absl::IsUnavailable(status) || absl::IsDataLoss(status)) broken_ = failure;
  return failure;
}

}  // namespace tsc_handoff::qmp
