#include "client/qmp/testing/fake_qemu.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::qmp {
namespace {

using Json = nlohmann::json;

// What a command or a look costs.
constexpr absl::Duration kAnswer = absl::Milliseconds(1);

absl::Status Refused(const std::string& why) { return absl::FailedPreconditionError(why); }

}  // namespace

void FakeQemu::Upset(const std::string& command, int nth, Mishap mishap) {
  mishaps_[{command, nth}] = mishap;
}

void FakeQemu::Emit(const std::string& event, Json data) {
  events_.push_back({event, std::move(data), clock_.now});
}

void FakeQemu::Become(const std::string& new_status) {
  status = new_status;
  if (changed) changed();
}

absl::StatusOr<Json> FakeQemu::Execute(const std::string& command, const Json& arguments) {
  clock_.now += kAnswer;
  const int nth = ++calls_[command];
  if (gone()) return absl::UnavailableError("the connection was closed");
  const auto mishap = mishaps_.find({command, nth});
  if (mishap == mishaps_.end()) return Carry(command, arguments);
  switch (mishap->second) {
    case Mishap::kRefused:
      return Refused(command + ": refused");
    case Mishap::kLost:
      (void)Carry(command, arguments);
      return absl::DeadlineExceededError(command + ": no answer");
    case Mishap::kGone:
      Become("gone");
      return absl::UnavailableError("the connection was closed");
  }
  return Refused("?");
}

absl::StatusOr<Json> FakeQemu::Carry(const std::string& command, const Json& arguments) {
  if (command == "query-status") return Json{{"status", status}, {"running", running()}};
  if (command == "query-name") return Json{{"name", name}};
  if (command == "query-uuid") return Json{{"UUID", "00000000-0000-0000-0000-000000000000"}};
  if (command == "query-kvm") return Json{{"enabled", kvm}, {"present", true}};
  if (command == "query-cpus-fast") return Json(std::vector<Json>(vcpus, Json::object()));
  if (command == "migrate-set-capabilities" || command == "migrate-incoming") return Json::object();
  if (command == "stop") {
    ever_told_to_stay = true;
    if (status != "inmigrate") Become("paused");
    return Json::object();
  }
  if (command == "cont") {
    if (status == "inmigrate") return Refused("cont: expecting a migration");
    if (status == "finish-migrate") return Refused("cont: Migration is not finalized yet");
    Become("running");
    Emit("RESUME");
    return Json::object();
  }
  if (command == "quit") {
    Become("gone");
    return Json::object();
  }
  if (command == "migrate") {
    if (arguments["uri"] != "tcp:there") return Refused("migrate: no such uri");
    migration_ = "setup";
    was_running_ = running();
    return Json::object();
  }
  if (command == "migrate_cancel") {
    if (migration_ == "setup" || migration_ == "active") migration_ = "cancelling";
    return Json::object();
  }
  if (command == "query-migrate") {
    Json answer = {{"status", migration_},
                   {"ram", {{"transferred", 5u}, {"remaining", 1u}, {"total", 6u}}}};
    if (migration_ == "failed") answer["error-desc"] = error;
    if (migration_ == "completed") answer["downtime"] = 90u;
    return answer;
  }
  return absl::UnimplementedError(command);
}

void FakeQemu::Advance() {
  if (migration_ == "cancelling") {
    migration_ = "cancelled";
  } else if (migration_ == "setup") {
    migration_ = "active";
  } else if (migration_ == "active" && --passes <= 0) {
    if (running()) {
      Become("finish-migrate");
      Emit("STOP");
    }
    if (!error.empty()) {
      migration_ = "failed";
      Become(was_running_ ? "running" : "paused");
    } else {
      migration_ = "completed";
      if (finishing == 0) Become("postmigrate");
      peer_->Become(!peer_->loads ? "gone" : peer_->ever_told_to_stay ? "paused" : "running");
      peer_->Emit("MIGRATION", {{"status", "completed"}});
    }
  } else {
    if (status == "finish-migrate" && --finishing <= 0) Become("postmigrate");
    return;
  }
  Emit("MIGRATION", {{"status", migration_}});
}

absl::StatusOr<std::optional<QmpEvent>> FakeQemu::NextEvent(absl::Duration timeout) {
  if (gone() && events_.empty()) return absl::UnavailableError("the connection was closed");
  if (events_.empty() && peer_ != nullptr) Advance();
  if (events_.empty()) {
    clock_.now += timeout;
    return std::nullopt;
  }
  QmpEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace tsc_handoff::qmp
