#include "client/tscctl/clock_json.h"

#include <nlohmann/json.hpp>

#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Json = nlohmann::ordered_json;

Json ClockJson(const NamedAgent& agent, const v1::ClockInfo& clock) {
  Json json;
  json["agent"] = agent.address;
  json["host_name"] = agent.host_name.empty() ? Json(nullptr) : Json(agent.host_name);
  json["trusted"] = clock.trusted();
  json["status"] = v1::ClockInfo::Status_Name(clock.status());
  // No number where none may be relied on: a script would compare it.
  json["error_bound_ns"] = clock.trusted() ? Json(clock.error_bound_ns()) : Json(nullptr);
  json["age_ns"] = clock.age_ns();
  json["source"] = clock.source();
  json["tai_offset_s"] = clock.tai_offset_s();
  json["leap_second"] = clock.leap_second();
  json["realtime_ns"] = clock.realtime_ns();
  json["untrusted_reason"] = clock.untrusted_reason();
  return json;
}

}  // namespace

Json ProbeJson(const v1::ClockProbe& probe) {
  Json json;
  json["offset_ns"] = probe.offset_ns();
  json["offset_error_ns"] = probe.offset_error_ns();
  json["round_trip_ns"] = probe.round_trip_ns();
  json["rounds"] = probe.rounds();
  json["duration_ns"] = probe.duration_ns();
  return json;
}

std::string ClockAsJson(const NamedAgent& agent, const v1::ClockInfo& clock) {
  return DumpJson(ClockJson(agent, clock)) + "\n";
}

std::string ComparisonAsJson(const ClockComparison& comparison) {
  const v1::CompareClocksResponse& answer = comparison.answer;
  const bool claimed = answer.local().trusted() && answer.peer().trusted();
  Json json;
  json["verdict"] = v1::CompareClocksResponse::Verdict_Name(answer.verdict());
  json["text"] = VerdictText(comparison);
  json["probe"] = ProbeJson(answer.probe());
  json["allowed_ns"] = claimed ? Json(AllowedDifferenceNs(answer)) : Json(nullptr);
  json["probed_at"] = comparison.probed_at;
  json["local"] = ClockJson(comparison.local, answer.local());
  json["peer"] = ClockJson(comparison.peer, answer.peer());
  return DumpJson(json) + "\n";
}

}  // namespace tsc_handoff::tscctl
