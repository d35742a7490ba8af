#include "client/tscctl/json_output.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/tscctl/clock_json.h"
#include "client/tscctl/format.h"
#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Json = nlohmann::ordered_json;

// A TSC value; see kHandoffFooter for why a string.
Json Ticks(uint64_t value) { return absl::StrCat(value); }
Json SignedTicks(int64_t value) { return absl::StrCat(value); }

double Micros(absl::Duration duration) { return absl::ToDoubleMicroseconds(duration); }

Json ReferenceJson(const v1::TimeReference& reference) {
  Json json;
  json["host_tsc_ticks"] = Ticks(reference.host_tsc_ticks());
  json["realtime_ns"] = reference.realtime_ns();
  json["tai_offset_s"] = reference.tai_offset_s();
  json["read_error_ns"] = reference.read_error_ns();
  json["clock_error_ns"] = reference.clock_error_ns();
  json["clock_trusted"] = reference.clock_trusted();
  json["leap_second"] = reference.leap_second();
  json["host_tsc_khz"] = reference.host_tsc_khz();
  json["method"] = v1::TimeReference::Method_Name(reference.method());
  return json;
}

Json ErrorBoundJson(const v1::ErrorBound& bound) {
  Json json;
  json["total_ns"] = bound.total_ns();
  json["source_read_ns"] = bound.source_read_ns();
  json["destination_read_ns"] = bound.destination_read_ns();
  json["source_clock_ns"] = bound.source_clock_ns();
  json["destination_clock_ns"] = bound.destination_clock_ns();
  json["rate_ns"] = bound.rate_ns();
  json["rounding_ns"] = bound.rounding_ns();
  json["probe_ns"] = bound.probe_ns();
  return json;
}

Json KvmClockJson(const v1::KvmClockResult& result) {
  Json json;
  json["moved"] = result.moved();
  json["kvmclock_ns"] = result.kvmclock_ns();
  json["error_ns"] = result.error_ns();
  json["read_error_ns"] = result.read_error_ns();
  json["master_clock"] = result.master_clock();
  return json;
}

template <typename Warnings>
void AppendWarnings(const char* side, const Warnings& warnings, Json* list) {
  for (const v1::Warning& warning : warnings) {
    Json json;
    json["side"] = side;
    json["code"] = v1::Warning::Code_Name(warning.code());
    json["message"] = warning.message();
    list->push_back(std::move(json));
  }
}

Json VcpusJson(const client::HandoffReport& report) {
  const bool verified = !report.captured_state.vcpus.empty();
  Json vcpus = Json::array();
  for (int i = 0; i < report.apply.vcpus_size(); ++i) {
    const v1::VcpuResult& vcpu = report.apply.vcpus(i);
    const auto index = static_cast<size_t>(i);
    Json json;
    json["vcpu_id"] = vcpu.vcpu_id();
    json["guest_tsc_before_ticks"] =
        verified ? Ticks(report.captured_state.vcpus[index].guest_tsc_ticks) : Json(nullptr);
    json["guest_tsc_after_ticks"] = Ticks(vcpu.guest_tsc_ticks());
    json["offset_before_ticks"] = Ticks(vcpu.offset_before_ticks());
    json["offset_after_ticks"] = Ticks(vcpu.offset_after_ticks());
    json["tsc_adjust_ticks"] = SignedTicks(vcpu.tsc_adjust_ticks());
    json["tsc_deadline_ticks"] = Ticks(vcpu.tsc_deadline_ticks());
    json["phase_error_ticks"] = verified ? Json(report.phase_change_ticks[index]) : Json(nullptr);
    vcpus.push_back(std::move(json));
  }
  return vcpus;
}

// As `tscctl evacuate` names them.
Json OutcomeJson(const client::HandoffReport& report) {
  switch (report.end) {
    case client::HandoffEnd::kMoved:
      return "moved";
    case client::HandoffEnd::kUndone:
      return "aborted";
    default:
      return nullptr;
  }
}

}  // namespace

std::string MessageAsJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  // Fails only for messages with Any, of which there is none here.
  return status.ok() ? json : absl::StrCat("{\"error\": \"", status.ToString(), "\"}\n");
}

std::string ApplyAsJson(const v1::SetTscStateResponse& apply) {
  const std::string text = MessageAsJson(apply);
  Json json = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return text;
  // Protobuf leaves out what a reader would rather find empty.
  for (const char* field : {"error_bound", "probe"}) {
    if (!json.contains(field)) json[field] = nullptr;
  }
  return DumpJson(json) + "\n";
}

std::string StateAsJson(const client::StateView& state, size_t state_bytes) {
  Json json;
  json["format_version"] = state.format_version;
  json["state_bytes"] = state_bytes;
  json["vm_id"] = state.vm_id;
  json["guest_tsc_khz"] = state.guest_tsc_khz;
  json["vcpu_count"] = state.vcpus.size();
  json["phase_spread_ticks"] = client::PhaseSpreadTicks(state);
  json["boot_id"] = Hex(state.boot_id);
  json["reference"] = state.reference.has_value() ? ReferenceJson(*state.reference) : Json(nullptr);
  json["kvmclock"] = nullptr;
  if (state.kvmclock.has_value()) {
    Json& clock = json["kvmclock"];
    clock["kvmclock_ns"] = state.kvmclock->kvmclock_ns();
    clock["read_error_ns"] = state.kvmclock->read_error_ns();
    clock["master_clock"] = state.kvmclock->master_clock();
  }
  json["vcpus"] = Json::array();
  for (const client::VcpuView& vcpu : state.vcpus) {
    Json entry;
    entry["vcpu_id"] = vcpu.id;
    entry["guest_tsc_ticks"] = Ticks(vcpu.guest_tsc_ticks);
    entry["tsc_adjust_ticks"] = SignedTicks(vcpu.tsc_adjust_ticks);
    entry["tsc_deadline_ticks"] = Ticks(vcpu.tsc_deadline_ticks);
    json["vcpus"].push_back(std::move(entry));
  }
  return DumpJson(json) + "\n";
}

std::string HandoffAsJson(const Options& options, const client::HandoffReport& report) {
  const v1::SetTscStateResponse& apply = report.apply;
  Json json;
  json["handoff_id"] = report.handoff_id.empty() ? Json(nullptr) : Json(report.handoff_id);
  json["outcome"] = OutcomeJson(report);
  json["epoch"] = report.source.has_value() ? Json(report.source->ticket().epoch()) : Json(nullptr);
  // A resumed one is known by its id alone; the source says of which VM it is.
  json["vm"] = report.source.has_value() ? report.source->vm_id() : options.vm;
  json["to_vm"] = report.source.has_value() ? report.source->ticket().destination_vm_id()
                                            : options.apply.vm_id();
  json["from"] = options.from;
  json["to"] = options.to;
  json["mode"] = options.apply.mode() == v1::APPLY_MODE_EXACT ? "exact" : "elapsed";
  json["validated_only"] = apply.validated_only();
  json["guest_tsc_khz"] = report.capture.summary().guest_tsc_khz();
  json["vcpu_count"] = apply.vcpus_size();
  json["vcpus"] = VcpusJson(report);
  const bool verified = !report.captured_state.vcpus.empty();
  json["phase_error_ticks"] = verified ? Json(report.phase_error_ticks) : Json(nullptr);
  json["phase_error_ticks_agent"] = apply.phase_error_ticks();
  json["elapsed_ns"] = apply.elapsed_ns();
  json["elapsed_ticks"] = apply.elapsed_ticks();
  json["elapsed_basis"] = v1::ElapsedBasis_Name(apply.elapsed_basis());
  json["commit_wait_ns"] = apply.commit_wait_ns();
  json["rate_error_ppm"] = apply.rate_error_ppm();
  json["source_agent"] = report.source_agent.empty() ? Json(nullptr) : Json(report.source_agent);
  json["probe"] = apply.has_probe() ? ProbeJson(apply.probe()) : Json(nullptr);
  json["error_bound_ns"] =
      apply.has_error_bound() ? Json(apply.error_bound().total_ns()) : Json(nullptr);
  json["error_bound"] =
      apply.has_error_bound() ? ErrorBoundJson(apply.error_bound()) : Json(nullptr);
  json["kvmclock"] = KvmClockJson(apply.kvmclock());
  json["source_reference"] = report.captured_state.reference.has_value()
                                 ? ReferenceJson(*report.captured_state.reference)
                                 : Json(nullptr);
  json["destination_reference"] =
      apply.has_reference() ? ReferenceJson(apply.reference()) : Json(nullptr);
  json["check_us"] = Micros(report.check);
  json["get_rpc_us"] = Micros(report.get_rpc);
  json["set_rpc_us"] = Micros(report.set_rpc);
  json["commits_us"] = Micros(report.commits);
  json["handoff_ms"] = absl::ToDoubleMilliseconds(report.handoff);
  json["total_ms"] = absl::ToDoubleMilliseconds(report.total);
  json["warnings"] = Json::array();
  AppendWarnings("source", report.capture.warnings(), &json["warnings"]);
  AppendWarnings("destination", apply.warnings(), &json["warnings"]);
  json["situation"] = report.situation;
  return DumpJson(json) + "\n";
}

std::string VersionAsJson(absl::string_view version) {
  Json json;
  json["version"] = std::string(version);
  return DumpJson(json) + "\n";
}

}  // namespace tsc_handoff::tscctl
