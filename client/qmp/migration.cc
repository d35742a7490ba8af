#include "client/qmp/migration.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::qmp {
namespace {

using Json = nlohmann::json;

// How often the source is asked how far it is, besides when it says so itself.
constexpr absl::Duration kLook = absl::Milliseconds(200);
// After the source has sent all, the destination has only to load its devices.
constexpr absl::Duration kLoadTimeout = absl::Seconds(30);
// A source that has sent all says that it is done a moment before it is: until then it is
// "finish-migrate", and refuses `cont`. No event tells the end of that.
constexpr absl::Duration kFinishLook = absl::Milliseconds(2);
constexpr absl::Duration kFinishTimeout = absl::Seconds(10);
// A resumed QEMU says so at once.
constexpr absl::Duration kResumeTimeout = absl::Seconds(10);

std::string TextOf(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool FlagOf(const Json& object, const char* key) {
  if (!object.is_object()) return false;
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

uint64_t NumberOf(const Json& object, const char* key) {
  if (!object.is_object()) return 0;
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

absl::Status Unfit(const Monitor& monitor, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("QEMU's monitor at ", monitor.address(), ": ", why));
}

absl::Status With(const absl::Status& status, absl::string_view more) {
  return absl::Status(status.code(), absl::StrCat(status.message(), "; ", more));
}

}  // namespace

QemuMigration::QemuMigration(Monitor& source, Monitor& destination, MigrationOptions options)
    : source_(source), destination_(destination), options_(std::move(options)) {}

// ---- before ----

absl::StatusOr<QemuMigration::RunState> QemuMigration::StateOf(Monitor& monitor) {
  const absl::StatusOr<Json> answer = monitor.Execute("query-status", Json::object());
  if (!answer.ok()) return answer.status();
  RunState state{TextOf(*answer, "status"), FlagOf(*answer, "running")};
  if (state.status.empty()) return Unfit(monitor, "query-status tells no status");
  return state;
}

absl::Status QemuMigration::CheckNames(Monitor& monitor, const std::string& vm_id) {
  if (vm_id.empty()) return absl::OkStatus();
  const absl::StatusOr<Json> name = monitor.Execute("query-name", Json::object());
  if (!name.ok()) return name.status();
  const absl::StatusOr<Json> uuid = monitor.Execute("query-uuid", Json::object());
  if (!uuid.ok()) return uuid.status();
  const std::string named = TextOf(*name, "name");
  const std::string numbered = TextOf(*uuid, "UUID");
  if (named == vm_id || numbered == vm_id) return absl::OkStatus();
  return Unfit(monitor, absl::StrCat("its VM is not ", vm_id, " but has the name \"", named,
                                     "\" and the UUID ", numbered,
                                     ": is this the monitor of another QEMU?"));
}

absl::Status QemuMigration::CheckFitness(Monitor& monitor, const std::string& vm_id) {
  if (absl::Status status = CheckNames(monitor, vm_id); !status.ok()) return status;
  if (!options_.require_kvm) return absl::OkStatus();
  const absl::StatusOr<Json> kvm = monitor.Execute("query-kvm", Json::object());
  if (!kvm.ok()) return kvm.status();
  if (!FlagOf(*kvm, "enabled")) return Unfit(monitor, "its VM does not run on KVM (-accel kvm)");
  return absl::OkStatus();
}

absl::StatusOr<size_t> QemuMigration::VcpuCount(Monitor& monitor) {
  const absl::StatusOr<Json> cpus = monitor.Execute("query-cpus-fast", Json::object());
  if (!cpus.ok()) return cpus.status();
  return cpus->size();
}

absl::Status QemuMigration::Prepare() {
  for (auto [monitor, vm_id] : {std::pair(&source_, options_.source_vm_id),
                                std::pair(&destination_, options_.destination_vm_id)}) {
    if (absl::Status status = CheckFitness(*monitor, vm_id); !status.ok()) return status;
  }
  const absl::StatusOr<RunState> source = StateOf(source_);
  if (!source.ok()) return source.status();
  if (!source->running && source->status != "paused") {
    return Unfit(source_, absl::StrCat("the source's VM is \"", source->status,
                                       "\"; it must run, or be paused"));
  }
  was_running_ = source->running;
  const absl::StatusOr<RunState> destination = StateOf(destination_);
  if (!destination.ok()) return destination.status();
  if (destination->status != "inmigrate") {
    return Unfit(destination_, absl::StrCat("the destination's QEMU is \"", destination->status,
                                            "\" and not \"inmigrate\"; start it with -incoming"));
  }
  const absl::StatusOr<size_t> here = VcpuCount(source_);
  const absl::StatusOr<size_t> there = VcpuCount(destination_);
  if (!here.ok()) return here.status();
  if (!there.ok()) return there.status();
  if (*here != *there) {
    return Unfit(destination_,
                 absl::StrCat("it has ", *there, " vCPUs, and the source has ", *here));
  }
  // Each tells by events how it gets on, and the destination does not run the VM by itself, even if
  // it was started without -S: a waiting QEMU takes `stop` for that.
  const Json events = {
      {"capabilities", Json::array({{{"capability", "events"}, {"state", true}}})}};
  for (Monitor* monitor : {&source_, &destination_}) {
    const absl::StatusOr<Json> set = monitor->Execute("migrate-set-capabilities", events);
    if (!set.ok()) return set.status();
  }
  const absl::StatusOr<Json> stopped = destination_.Execute("stop", Json::object());
  if (!stopped.ok()) return stopped.status();
  if (options_.incoming.empty()) return absl::OkStatus();
  return destination_.Execute("migrate-incoming", {{"uri", options_.incoming}}).status();
}

// ---- the transfer ----

absl::StatusOr<QemuMigration::Transferred> QemuMigration::QueryMigrate() {
  const absl::StatusOr<Json> answer = source_.Execute("query-migrate", Json::object());
  if (!answer.ok()) return answer.status();
  Transferred result;
  result.progress.status = TextOf(*answer, "status");
  result.error = TextOf(*answer, "error-desc");
  result.downtime_ms = static_cast<int64_t>(NumberOf(*answer, "downtime"));
  if (const auto ram = answer->find("ram"); ram != answer->end()) {
    result.progress.transferred_bytes = NumberOf(*ram, "transferred");
    result.progress.remaining_bytes = NumberOf(*ram, "remaining");
    result.progress.total_bytes = NumberOf(*ram, "total");
  }
  return result;
}

void QemuMigration::CancelWhenAsked() {
  if (cancel_sent_ || !options_.interrupts || options_.interrupts() == 0) return;
  cancel_sent_ = true;
  // What comes of it, the status tells: it may have been too late.
  (void)source_.Execute("migrate_cancel", Json::object());
}

absl::Status QemuMigration::LookAtSource(bool* done) {
  const absl::StatusOr<Transferred> now = QueryMigrate();
  if (!now.ok()) return now.status();
  if (options_.progress) options_.progress(now->progress);
  const std::string& status = now->progress.status;
  figures_.transferred_bytes = now->progress.transferred_bytes;
  figures_.qemu_downtime_ms = now->downtime_ms;
  *done = status == "completed";
  if (status == "cancelled") {
    return absl::CancelledError("the migration was cancelled as asked");
  }
  if (status == "failed" || status == "none" || status.empty()) {
    return absl::AbortedError(absl::StrCat(
        "QEMU's migration failed",
        now->error.empty() ? std::string(" and says no more") : absl::StrCat(": ", now->error)));
  }
  return absl::OkStatus();
}

absl::Status QemuMigration::WaitForSource() {
  for (bool done = false; !done;) {
    if (options_.interrupts && options_.interrupts() > 1) {
      stage_ = Stage::kUnclear;
      return absl::CancelledError("stopped as asked, while the migration was being cancelled");
    }
    CancelWhenAsked();
    const absl::StatusOr<std::optional<QmpEvent>> event = source_.NextEvent(kLook);
    if (!event.ok()) return event.status();
    if (event->has_value() && (*event)->name == "STOP") stopped_at_ = (*event)->seen;
    // The only other events that say something new; many come while a guest reboots or ejects.
    if (event->has_value() && (*event)->name != "MIGRATION") continue;
    if (absl::Status status = LookAtSource(&done); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status QemuMigration::WaitForDestination() {
  const absl::Duration deadline = options_.now() + kLoadTimeout;
  while (true) {
    const absl::StatusOr<RunState> state = StateOf(destination_);
    if (!state.ok()) return state.status();
    if (state->status != "inmigrate") return absl::OkStatus();
    if (options_.now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "QEMU's monitor at ", destination_.address(), ": the VM was not loaded within ",
          absl::FormatDuration(kLoadTimeout), " after the source had sent all"));
    }
    const absl::StatusOr<std::optional<QmpEvent>> event = destination_.NextEvent(kLook);
    if (!event.ok()) return event.status();
  }
}

absl::Status QemuMigration::CheckLoaded() {
  for (Monitor* monitor : {&source_, &destination_}) {
    const absl::StatusOr<RunState> state = StateOf(*monitor);
    if (!state.ok()) return state.status();
    if (state->running) {
      stage_ = Stage::kUnclear;
      return Unfit(*monitor,
                   "the VM runs here, though nobody was to let it: somebody else drives "
                   "this QEMU, too");
    }
  }
  return absl::OkStatus();
}

absl::Status QemuMigration::Transfer() {
  const absl::Duration begun = options_.now();
  const absl::StatusOr<Json> started = source_.Execute("migrate", {{"uri", options_.uri}});
  absl::Status status = started.status();
  if (status.ok()) status = WaitForSource();
  if (status.ok()) status = WaitForDestination();
  if (status.ok()) status = CheckLoaded();
  figures_.transfer = options_.now() - begun;
  if (!status.ok()) return stage_ == Stage::kUnclear ? status : BackOnSource(status);
  loaded_at_ = options_.now();
  stage_ = Stage::kLoaded;
  return absl::OkStatus();
}

// QEMU resumes the VM itself when its sending fails or is cancelled, but not when the destination
// fails after that.
absl::Status QemuMigration::BackOnSource(const absl::Status& why) {
  stage_ = Stage::kUnclear;
  const absl::StatusOr<RunState> state = StateOf(source_);
  if (!state.ok()) return With(why, "and then: " + std::string(state.status().message()));
  if (!state->running && was_running_) {
    // The destination never gets to run its copy: it was told to stay paused.
    Quit(destination_);
    absl::Status resumed = ResumeSource();
    if (!resumed.ok()) return With(why, "and then: " + std::string(resumed.message()));
  }
  stage_ = Stage::kStayed;
  return why;
}

// ---- after ----

absl::Status QemuMigration::Resume(Monitor& monitor, std::optional<absl::Duration>* resumed_at) {
  const absl::StatusOr<Json> continued = monitor.Execute("cont", Json::object());
  if (!continued.ok()) return continued.status();
  const absl::Duration deadline = options_.now() + kResumeTimeout;
  while (options_.now() < deadline) {
    const absl::StatusOr<std::optional<QmpEvent>> event = monitor.NextEvent(kLook);
    if (!event.ok()) return event.status();
    if (!event->has_value() || (*event)->name != "RESUME") continue;
    if (resumed_at != nullptr) *resumed_at = (*event)->seen;
    return absl::OkStatus();
  }
  const absl::StatusOr<RunState> state = StateOf(monitor);
  if (!state.ok()) return state.status();
  if (state->running) return absl::OkStatus();
  return Unfit(monitor, absl::StrCat("the VM is \"", state->status, "\" after `cont`"));
}

absl::Status QemuMigration::WaitUntilSourceFinished() {
  const absl::Duration deadline = options_.now() + kFinishTimeout;
  while (true) {
    const absl::StatusOr<RunState> state = StateOf(source_);
    if (!state.ok()) return state.status();
    // After the deadline QEMU itself may say what is the matter.
    if (state->status != "finish-migrate" || options_.now() >= deadline) return absl::OkStatus();
    const absl::StatusOr<std::optional<QmpEvent>> event = source_.NextEvent(kFinishLook);
    if (!event.ok()) return event.status();
  }
}

absl::Status QemuMigration::ResumeSource() {
  const absl::Status finished = WaitUntilSourceFinished();
  return finished.ok() ? Resume(source_, nullptr) : finished;
}

void QemuMigration::Quit(Monitor& monitor) {
  // Whether it says so before it goes, or has gone already, does not matter.
  (void)monitor.Execute("quit", Json::object());
}

absl::Status QemuMigration::Finish() {
  stage_ = Stage::kMoved;
  figures_.loaded_to_cont = options_.now() - loaded_at_;
  absl::Status status;
  if (was_running_) {
    std::optional<absl::Duration> resumed_at;
    status = Resume(destination_, &resumed_at);
    if (resumed_at.has_value() && stopped_at_.has_value())
      figures_.downtime = *resumed_at - *stopped_at_;
  }
  // Also if it does not run: nothing may ever run the source's copy again.
  if (!options_.keep_source) {
    Quit(source_);
  } else if (status.ok()) {
    status = WaitUntilSourceFinished();
  }
  return status;
}

absl::Status QemuMigration::Return() {
  Quit(destination_);
  if (was_running_) {
    if (absl::Status status = ResumeSource(); !status.ok()) {
      stage_ = Stage::kUnclear;
      return status;
    }
  }
  stage_ = Stage::kReturned;
  return absl::OkStatus();
}

}  // namespace tsc_handoff::qmp
