#include "client/tscctl/watch/event_text.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/names.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Json = nlohmann::ordered_json;

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

const char* KindName(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::kAgentFound:
      return "agent_found";
    case Event::Kind::kAgentLost:
      return "agent_lost";
    case Event::Kind::kClock:
      return "clock";
    case Event::Kind::kHandoff:
      return "handoff";
    case Event::Kind::kUndecided:
      return "undecided";
  }
  return "unknown";
}

// The other end's agent, as far as the ticket tells.
std::string PeerId(const v1::Handoff& handoff) {
  return handoff.side() == v1::Handoff::SIDE_SOURCE ? handoff.ticket().destination_agent_id()
                                                    : handoff.ticket().source_agent_id();
}

// A value that stays one word, or is quoted.
std::string Value(absl::string_view text) {
  const std::string printable = Printable(text);
  if (!printable.empty() && printable.find_first_of(" \"=") == std::string::npos) return printable;
  return absl::StrCat("\"", absl::StrReplaceAll(printable, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

class Words {
 public:
  void Add(absl::string_view key, absl::string_view value) {
    words_.push_back(absl::StrCat(key, "=", Value(value)));
  }
  void AddNumber(absl::string_view key, uint64_t value) {
    words_.push_back(absl::StrCat(key, "=", value));
  }
  void AddWord(absl::string_view word) { words_.emplace_back(word); }
  std::string Join() const { return absl::StrJoin(words_, " "); }

 private:
  std::vector<std::string> words_;
};

std::string InColour(const Event& event, const std::string& word, const Palette& palette) {
  switch (event.kind) {
    case Event::Kind::kAgentLost:
    case Event::Kind::kUndecided:
      return palette.Red(word);
    case Event::Kind::kClock:
      return event.info.clock().trusted() ? palette.Green(word) : palette.Red(word);
    case Event::Kind::kAgentFound:
      return palette.Green(word);
    case Event::Kind::kHandoff:
      return event.handoff.vm_lost() ? palette.Red(word) : palette.Bold(word);
  }
  return word;
}

void AddClock(const v1::ClockInfo& clock, Words* words) {
  words->Add("status", ClockStatusName(clock.status()));
  words->Add("trusted", clock.trusted() ? "yes" : "no");
  if (clock.trusted()) words->AddNumber("bound_ns", clock.error_bound_ns());
  if (!clock.trusted()) words->Add("reason", clock.untrusted_reason());
}

void AddHandoff(const Event& event, Words* words) {
  const v1::Handoff& handoff = event.handoff;
  words->Add("state", HandoffStateName(handoff.state()));
  if (event.kind == Event::Kind::kHandoff && event.before != v1::Handoff::STATE_UNSPECIFIED)
    words->Add("before", HandoffStateName(event.before));
  words->Add("vm", handoff.vm_id());
  words->Add("side", HandoffSideName(handoff.side()));
  words->Add("id", handoff.handoff_id());
  words->AddNumber("epoch", handoff.ticket().epoch());
  if (const std::string peer = PeerId(handoff); !peer.empty()) words->Add("peer_id", Hex(peer));
  if (handoff.silent_ns() > 0) words->AddNumber("silent_ns", handoff.silent_ns());
  if (handoff.vm_lost()) words->Add("vm_lost", "yes");
}

Json ClockJson(const v1::ClockInfo& clock) {
  Json json;
  json["status"] = v1::ClockInfo::Status_Name(clock.status());
  json["trusted"] = clock.trusted();
  json["error_bound_ns"] = clock.trusted() ? Json(clock.error_bound_ns()) : Json(nullptr);
  json["age_ns"] = clock.age_ns();
  json["source"] = clock.source();
  json["untrusted_reason"] = clock.untrusted_reason();
  return json;
}

Json HandoffJson(const v1::Handoff& handoff) {
  Json json;
  json["handoff_id"] = handoff.handoff_id();
  json["vm"] = handoff.vm_id();
  json["side"] = v1::Handoff::Side_Name(handoff.side());
  json["state"] = v1::Handoff::State_Name(handoff.state());
  json["pending"] = IsPending(handoff.state());
  json["epoch"] = handoff.ticket().epoch();
  json["destination_vm"] = handoff.ticket().destination_vm_id();
  json["source_agent_id"] = Hex(handoff.ticket().source_agent_id());
  json["destination_agent_id"] = Hex(handoff.ticket().destination_agent_id());
  json["begun_at_ns"] = handoff.begun_at_ns();
  json["changed_at_ns"] = handoff.changed_at_ns();
  json["undecided"] = handoff.undecided();
  json["silent_ns"] = handoff.silent_ns();
  json["vm_lost"] = handoff.vm_lost();
  return json;
}

}  // namespace

std::string EventAsText(const Event& event, const Palette& palette) {
  Words words;
  words.AddWord(TimeText(event.at));
  words.AddWord(Printable(event.agent));
  words.AddWord(InColour(event, KindName(event.kind), palette));
  if (!event.host.empty()) words.Add("host", event.host);
  switch (event.kind) {
    case Event::Kind::kAgentFound:
      words.Add("version", event.info.agent_version());
      words.AddNumber("vms", event.info.vm_count());
      break;
    case Event::Kind::kAgentLost:
      words.Add("reason", event.error.message());
      break;
    case Event::Kind::kClock:
      AddClock(event.info.clock(), &words);
      break;
    case Event::Kind::kHandoff:
    case Event::Kind::kUndecided:
      AddHandoff(event, &words);
      break;
  }
  if (event.initial) words.Add("initial", "yes");
  return words.Join();
}

std::string EventAsJson(const Event& event) {
  Json json;
  json["time"] = TimeText(event.at);
  json["event"] = KindName(event.kind);
  json["agent"] = event.agent;
  json["host_name"] = event.host.empty() ? Json(nullptr) : Json(event.host);
  json["initial"] = event.initial;
  switch (event.kind) {
    case Event::Kind::kAgentFound:
      json["agent_version"] = event.info.agent_version();
      json["agent_id"] = Hex(event.info.agent_id());
      json["vm_count"] = event.info.vm_count();
      break;
    case Event::Kind::kAgentLost:
      json["reason"] = client::ReasonNameOf(event.error);
      json["message"] = std::string(event.error.message());
      break;
    case Event::Kind::kClock:
      json["clock"] = ClockJson(event.info.clock());
      break;
    case Event::Kind::kHandoff:
      json["before"] = event.before == v1::Handoff::STATE_UNSPECIFIED
                           ? Json(nullptr)
                           : Json(v1::Handoff::State_Name(event.before));
      json["handoff"] = HandoffJson(event.handoff);
      break;
    case Event::Kind::kUndecided:
      json["handoff"] = HandoffJson(event.handoff);
      break;
  }
  return json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace tsc_handoff::tscctl
