#include "tests/witness/commands.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/witness/snapshot.h"
#include "tests/witness/tsc_view.h"

namespace tsc_handoff::witness {
namespace {

using nlohmann::json;

absl::Status WantsPaused(const char* command) {
  return absl::FailedPreconditionError(
      absl::StrCat(command, " wants a paused VM: send \"pause\" first"));
}

absl::StatusOr<std::string> StringField(const json& request, const char* name) {
  auto field = request.find(name);
  if (field == request.end() || !field->is_string() || field->get<std::string>().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is missing or not a string"));
  }
  return field->get<std::string>();
}

}  // namespace

absl::StatusOr<std::unique_ptr<WitnessVm>> WitnessVm::Create(
    const Options& options, std::function<void(const std::string&)> on_failure) {
  std::unique_ptr<WitnessVm> vm(new WitnessVm());
  vm->options_ = options;
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      Machine::Create({.vcpu_ids = options.vcpu_ids, .irqchip = options.irqchip});
  if (!machine.ok()) return machine.status();
  vm->machine_ = *std::move(machine);
  if (!options.incoming) {
    GuestSetup setup;
    setup.phase_ticks = options.phase_ticks;
    setup.tsc_adjust_ticks = options.tsc_adjust_ticks;
    setup.check_across = options.check_across;
    setup.deadline_period_ticks = options.deadline_period_ticks;
    if (absl::Status status = vm->machine_->StartFresh(setup); !status.ok()) return status;
    vm->has_guest_ = true;
  }
  vm->runner_ = std::make_unique<Runner>(
      *vm->machine_,
      RunnerConfig{.nice = options.nice, .nap = std::chrono::microseconds(options.nap_us)},
      std::move(on_failure));
  return vm;
}

absl::Status WitnessVm::Register() {
  if (options_.agent_socket.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<AgentSession>> session = AgentSession::Open(options_, *machine_);
  if (!session.ok()) return session.status();
  session_ = *std::move(session);
  return session_->WaitRegistered(options_.register_timeout_ms);
}

absl::Status WitnessVm::Pause() {
  if (!runner_->running()) return absl::OkStatus();
  if (absl::Status status = runner_->Pause(); !status.ok()) return status;
  if (session_ != nullptr) session_->Pause();
  return absl::OkStatus();
}

absl::Status WitnessVm::Resume() {
  if (runner_->running()) return absl::OkStatus();
  if (!has_guest_)
    return absl::FailedPreconditionError("there is no guest yet: send \"load\" first");
  if (session_ != nullptr) {
    if (absl::Status status = session_->Resume(); !status.ok()) return status;
  }
  has_run_ = true;
  runner_->Run();
  return absl::OkStatus();
}

absl::Status WitnessVm::Save(const std::string& path) {
  if (runner_->running()) return WantsPaused("save");
  if (!has_guest_) return absl::FailedPreconditionError("there is no guest to save");
  absl::StatusOr<Snapshot> snapshot = machine_->Save();
  if (!snapshot.ok()) return snapshot.status();
  snapshot->vm_id = options_.vm_id;
  return WriteFile(path, EncodeSnapshot(*snapshot));
}

absl::Status WitnessVm::Load(const std::string& path) {
  if (runner_->running()) return WantsPaused("load");
  if (!options_.incoming || has_run_) {
    return absl::FailedPreconditionError(
        "load wants a VM started with --incoming that has not run yet");
  }
  absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<Snapshot> snapshot = DecodeSnapshot(*bytes);
  if (!snapshot.ok()) return snapshot.status();
  // A load that fails half way leaves no guest that could be resumed; it may be repeated.
  has_guest_ = false;
  if (absl::Status status = machine_->Load(*snapshot); !status.ok()) return status;
  has_guest_ = true;
  return absl::OkStatus();
}

json WitnessVm::VcpuRecord(size_t index) const {
  const volatile WitnessVcpu& record = *machine_->record(index);
  json entry;
  auto add = [&entry](const char* name, uint64_t value) { entry[name] = value; };
  add("id", machine_->vcpus()[index].id);
  add("iterations", record.iterations);
  add("last_tsc_ticks", record.last_tsc_ticks);
  add("phase_ticks", record.phase_ticks);
  add("backward_steps", record.backward_steps);
  add("backward_largest_ticks", record.backward_largest_ticks);
  add("forward_largest_ticks", record.forward_largest_ticks);
  add("warps", record.warps);
  add("warp_largest_ticks", record.warp_largest_ticks);
  add("adjust_reads", record.adjust_reads);
  add("tsc_adjust_ticks", record.tsc_adjust_ticks);
  entry["has_tsc_adjust"] = record.has_adjust != 0;
  add("yields", record.yields);
  add("beats", runner_->beats(index));
  if (record.deadline_period_ticks != 0) {
    add("deadline_armed_ticks", record.deadline_armed_ticks);
    add("deadline_fires", record.deadline_fires);
    add("deadline_late_largest_ticks", record.deadline_late_largest_ticks);
    add("deadline_early", record.deadline_early);
    add("deadline_early_largest_ticks", record.deadline_early_largest_ticks);
  }
  return entry;
}

json WitnessVm::Status() {
  json reply = {{"vm_id", options_.vm_id},       {"running", runner_->running()},
                {"incoming", options_.incoming}, {"has_guest", has_guest_},
                {"registered", false},           {"may_run", true},
                {"vcpus", json::array()}};
  if (session_ == nullptr) {
    reply["registration"] = "started without an agent";
  } else {
    absl::Status registered = session_->WaitRegistered(0);
    reply["registered"] = registered.ok();
    if (!registered.ok()) reply["registration"] = std::string(registered.message());
    absl::Status may_run = session_->MayRun();
    reply["may_run"] = may_run.ok();
    if (!may_run.ok()) reply["permit"] = std::string(may_run.message());
  }
  for (size_t i = 0; i < machine_->vcpus().size(); ++i) reply["vcpus"].push_back(VcpuRecord(i));
  return reply;
}

json WitnessVm::Verdict() const {
  uint64_t least = std::numeric_limits<uint64_t>::max(), total = 0;
  uint64_t steps = 0, step_largest = 0, warps = 0, warp_largest = 0, forward_largest = 0;
  json vcpus = json::array();
  for (size_t i = 0; i < machine_->vcpus().size(); ++i) {
    const volatile WitnessVcpu& record = *machine_->record(i);
    vcpus.push_back(VcpuRecord(i));
    least = std::min(least, uint64_t{record.iterations});
    total += record.iterations;
    steps += record.backward_steps;
    warps += record.warps;
    step_largest = std::max(step_largest, uint64_t{record.backward_largest_ticks});
    warp_largest = std::max(warp_largest, uint64_t{record.warp_largest_ticks});
    forward_largest = std::max(forward_largest, uint64_t{record.forward_largest_ticks});
  }
  return {{"vm_id", options_.vm_id},
          {"running", runner_->running()},
          {"check_across", machine_->shared()->check_across != 0},
          {"iterations_total", total},
          {"iterations_least", least},
          {"backward_steps", steps},
          {"backward_largest_ticks", step_largest},
          {"forward_largest_ticks", forward_largest},
          {"warps", warps},
          {"warp_largest_ticks", warp_largest},
          {"vcpus", std::move(vcpus)}};
}

absl::StatusOr<json> WitnessVm::Disturb(const json& request) {
  if (runner_->running()) return WantsPaused("disturb");
  auto id = request.find("vcpu"), ticks = request.find("ticks");
  if (id == request.end() || !id->is_number_unsigned() || ticks == request.end() ||
      !ticks->is_number_integer()) {
    return absl::InvalidArgumentError(
        "disturb wants \"vcpu\", an id, and \"ticks\", a whole number");
  }
  for (size_t i = 0; i < machine_->vcpus().size(); ++i) {
    if (machine_->vcpus()[i].id != id->get<uint64_t>()) continue;
    absl::StatusOr<uint64_t> offset = machine_->Disturb(i, ticks->get<int64_t>());
    if (!offset.ok()) return offset.status();
    return json{{"tsc_offset_ticks", *offset}};
  }
  return absl::NotFoundError(absl::StrCat("there is no vCPU ", id->get<uint64_t>()));
}

absl::StatusOr<json> WitnessVm::CheckAcross(const json& request) {
  if (runner_->running()) return WantsPaused("check_across");
  auto on = request.find("on");
  if (on == request.end() || !on->is_boolean())
    return absl::InvalidArgumentError("check_across wants \"on\"");
  machine_->SetCheckAcross(on->get<bool>());
  return json::object();
}

absl::StatusOr<json> WitnessVm::Carry(const std::string& command, const json& request, bool* quit) {
  auto done = [](const absl::Status& status) -> absl::StatusOr<json> {
    if (!status.ok()) return status;
    return json::object();
  };
  if (command == "status") return Status();
  if (command == "verdict") return Verdict();
  if (command == "offsets") return ViewTscs(*machine_, runner_->running());
  if (command == "pause") return done(Pause());
  if (command == "resume") return done(Resume());
  if (command == "disturb") return Disturb(request);
  if (command == "check_across") return CheckAcross(request);
  if (command == "save" || command == "load") {
    absl::StatusOr<std::string> path = StringField(request, "path");
    if (!path.ok()) return path.status();
    return done(command == "save" ? Save(*path) : Load(*path));
  }
  if (command == "quit") {
    *quit = true;
    return json::object();
  }
  return absl::InvalidArgumentError(absl::StrCat("no command \"", command,
                                                 "\": there are status, pause, resume, save, load, "
                                                 "verdict, offsets, check_across, disturb, quit"));
}

json WitnessVm::Handle(const json& request, bool* quit) {
  absl::StatusOr<json> reply =
      absl::InvalidArgumentError("a request is one JSON object a line with a string \"cmd\"");
  if (request.is_object()) {
    absl::StatusOr<std::string> command = StringField(request, "cmd");
    reply = command.ok() ? Carry(*command, request, quit) : absl::StatusOr<json>(command.status());
  }
  if (!reply.ok()) return {{"ok", false}, {"error", std::string(reply.status().message())}};
  (*reply)["ok"] = true;
  return *std::move(reply);
}

}  // namespace tsc_handoff::witness
