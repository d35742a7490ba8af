// What agents answer, as an agent gone bad might: to tscctl, which shows it on a terminal, and to
// another agent, which probes the clock. Whatever they say is shown on one line, steers no terminal
// and breaks no JSON; and no error, however strange, is taken for the word of an agent that it is
// not.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/format.h"
#include "client/tscctl/top/text.h"
#include "client/tscctl/watch/event_text.h"
#include "client/tscctl/watch/events.h"
#include "google/rpc/error_details.pb.h"
#include "server/peer/clock_claim.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/message_mutator.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

namespace v1 = ::tschandoff::v1;

enum Kind : uint8_t { kText = 0, kClaim = 1, kError = 2, kHandoff = 3, kHost = 4, kKinds = 5 };

constexpr size_t kClaimTextBytes = 256;

// Neither C0 nor DEL, nor C1 as UTF-8 has it, which some terminals obey as well.
bool IsShowable(absl::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return false;
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0u;
    if (byte == 0xc2 && next >= 0x80 && next < 0xa0) return false;
  }
  return true;
}

// Bytes above 127 in their places in characters, and no others.
bool IsUtf8(const std::string& text) {
  const std::string json =
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
  return nlohmann::json::parse(json).get<std::string>() == text;
}

void TryText(Bytes& bytes) {
  const size_t width = bytes.Take<uint8_t>() % 40;
  const std::string text = bytes.TakeRest();
  const std::string printable = tscctl::Printable(text);
  FUZZ_CHECK(IsShowable(printable) && IsUtf8(printable));
  FUZZ_CHECK(tscctl::Printable(printable) == printable);
  const std::string ascii = tscctl::AsciiText(text);
  FUZZ_CHECK(IsShowable(ascii));
  FUZZ_CHECK(std::all_of(ascii.begin(), ascii.end(), [](char c) { return c >= ' ' && c <= '~'; }));
  FUZZ_CHECK(tscctl::TextWidth(tscctl::FitLeft(printable, width, "~")) == width);
  FUZZ_CHECK(tscctl::TextWidth(tscctl::FitRight(printable, width, "~")) == width);
  if (width == 0) return;
  for (const std::string& line : tscctl::Wrapped(ascii, width))
    FUZZ_CHECK(tscctl::TextWidth(line) <= width);
}

void TryClaim(const v1::ClockInfo& info) {
  const clock::ClockQuality claim = peer::ClaimFromProto(info);
  if (claim.trusted) FUZZ_CHECK(claim.error_bound_ns > 0);
  for (const std::string& text : {claim.source, claim.untrusted_reason})
    FUZZ_CHECK(text.size() <= kClaimTextBytes);
}

void TryError(const google::rpc::Status& status) {
  const auto code = 1 + static_cast<uint32_t>(status.code()) % 16;
  absl::Status error(static_cast<absl::StatusCode>(code), status.message());
  client::AttachDetails(status, &error);
  const bool from_agent = client::IsFromAgent(error);
  FUZZ_CHECK(from_agent || client::ReasonNameOf(error).empty());
  FUZZ_CHECK(from_agent || client::MetadataOf(error).empty());
  FUZZ_CHECK(!client::NextStepOf(error).empty());
  FUZZ_CHECK(!client::IsUnreachable(error) || !from_agent);
  if (client::ReasonOf(error) != v1::ERROR_REASON_UNSPECIFIED)
    FUZZ_CHECK(client::ReasonNameOf(error) == v1::ErrorReason_Name(client::ReasonOf(error)));
  const absl::Status annotated = client::Annotate(error, "to a");
  FUZZ_CHECK(client::IsFromAgent(annotated) == from_agent);
  tscctl::Event lost;
  lost.kind = tscctl::Event::Kind::kAgentLost;
  lost.error = error;
  FUZZ_CHECK(IsShowable(tscctl::EventAsText(lost, tscctl::Palette(false))));
  FUZZ_CHECK(nlohmann::json::accept(tscctl::EventAsJson(lost)));
}

void TryEvents(const std::vector<tscctl::Event>& events) {
  for (const tscctl::Event& event : events) {
    FUZZ_CHECK(IsShowable(tscctl::EventAsText(event, tscctl::Palette(false))));
    const std::string json = tscctl::EventAsJson(event);
    FUZZ_CHECK(nlohmann::json::accept(json) && !absl::StrContains(json, "\n"));
  }
}

void TryHandoff(const v1::WatchHandoffsResponse& change) {
  tscctl::EventTracker tracker("a:1");
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  TryEvents(tracker.OnHandoff(change, now));
  TryEvents(tracker.OnHandoff(change, now));
}

void TryHost(const v1::HostInfo& host) {
  tscctl::EventTracker tracker("a:1");
  tscctl::AgentPoll poll;
  poll.host = host;
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  TryEvents(tracker.OnPoll(poll, now));
  poll.host.mutable_clock()->set_trusted(!host.clock().trusted());
  TryEvents(tracker.OnPoll(poll, now));
}

template <typename Message>
void Parsed(const std::string& bytes, void (*what)(const Message&)) {
  Message message;
  if (message.ParseFromString(bytes)) what(message);
}

std::string Input(Kind kind, const std::string& rest) {
  return std::string(1, static_cast<char>(kind)) + rest;
}

}  // namespace

std::unique_ptr<google::protobuf::Message> MessageOf(uint8_t kind) {
  switch (kind % kKinds) {
    case kClaim:
      return std::make_unique<v1::ClockInfo>();
    case kError:
      return std::make_unique<google::rpc::Status>();
    case kHandoff:
      return std::make_unique<v1::WatchHandoffsResponse>();
    case kHost:
      return std::make_unique<v1::HostInfo>();
    default:
      return nullptr;
  }
}

std::vector<std::string> Seeds() {
  v1::HostInfo host;
  host.set_host_name("host1");
  v1::ClockInfo& clock = *host.mutable_clock();
  clock.set_trusted(true);
  clock.set_error_bound_ns(40'000);
  clock.set_source("chrony");
  google::rpc::ErrorInfo info;
  info.set_domain("tsc-handoff");
  info.set_reason("VM_RUNNING");
  (*info.mutable_metadata())["next_step"] = "Pause it.";
  google::rpc::Status status;
  status.set_code(9);
  status.set_message("it runs");
  status.add_details()->PackFrom(info);
  v1::WatchHandoffsResponse change;
  change.mutable_handoff()->set_state(v1::Handoff::STATE_APPLIED);
  change.mutable_handoff()->set_side(v1::Handoff::SIDE_DESTINATION);
  change.mutable_handoff()->mutable_ticket()->set_handoff_id("h-1");
  change.mutable_handoff()->set_vm_id("vm1");
  return {
      Input(kText, "\x10VM vm1 runs; pause it first\nand then again\t."),
      Input(kText, "\x05\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
      // A terminal's title, by C0 and by C1; half a character.
      Input(kText,
            "\x05\x1b]0;x\x07 \xc2\x9d"
            "0;x\xc2\x9c \xe2\x82"),
      Input(kText,
            "\x05\x9b"
            "2J \xed\xa0\x80 \xc0\xaf \xf5\x80\x80\x80"),
      Input(kClaim, clock.SerializeAsString()),
      Input(kError, status.SerializeAsString()),
      Input(kHandoff, change.SerializeAsString()),
      Input(kHost, host.SerializeAsString()),
  };
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff::fuzz;  // NOLINT: a target is one function
  Bytes bytes(data, size);
  const uint8_t kind = bytes.Take<uint8_t>() % kKinds;
  if (kind == kText) {
    TryText(bytes);
    return 0;
  }
  const std::string rest = bytes.TakeRest();
  if (kind == kClaim) Parsed(rest, TryClaim);
  if (kind == kError) Parsed(rest, TryError);
  if (kind == kHandoff) Parsed(rest, TryHandoff);
  if (kind == kHost) Parsed(rest, TryHost);
  return 0;
}
