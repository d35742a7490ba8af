#include "server/peer/grpc_peer_prober.h"

#include <grpc/support/time.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/trace.h"
#include "server/clock/reference.h"
#include "server/peer/clock_claim.h"
#include "server/tls/channel_credentials.h"

namespace tsc_handoff::peer {
namespace {

namespace v1 = tschandoff::v1;

constexpr size_t kMaxAddress = 255;
constexpr size_t kMaxConnections = 64;
constexpr size_t kBootIdBytes = 16;
constexpr int kMaxAnswerBytes = 16 * 1024;

absl::Status Unreachable(const std::string& address, const std::string& why) {
  return Error(Reason::kPeerUnreachable,
               absl::StrCat("the agent at ", address, " could not be probed: ", why),
               {{"peer", address}});
}

std::string Why(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED)
    return "it does not know ProbeClock; is it an older agent?";
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED)
    return "it did not answer in time";
  if (status.error_message().empty())
    return absl::StrCat("the call ended with gRPC code ", static_cast<int>(status.error_code()));
  return status.error_message();
}

absl::StatusOr<time::ClockStamp> FromProto(const std::string& address,
                                           const v1::ClockReading& reading) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  if (reading.realtime_ns() <= 0 || reading.read_error_ns() > kMax)
    return Unreachable(address, "its readings of its clock make no sense");
  return time::ClockStamp{reading.host_tsc_ticks(), reading.realtime_ns(),
                          static_cast<int64_t>(reading.read_error_ns())};
}

// One peer, one boot: what is the same in all answers of a probe.
absl::Status CheckIdentity(const std::string& address, const v1::ProbeClockResponse& response,
                           const handoff::PeerAnswers& answers) {
  if (response.boot_id().size() != kBootIdBytes || response.host_tsc_khz() == 0)
    return Unreachable(address, "it does not say which host it is on");
  if (!answers.rounds.empty() &&
      (response.boot_id() != answers.boot_id || response.host_tsc_khz() != answers.peer_khz))
    return Unreachable(address, "its answers come from different hosts");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPeerAddress(const std::string& field, const std::string& address) {
  const size_t colon = std::min(address.rfind(':'), address.size());
  const absl::string_view host = absl::string_view(address).substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  uint32_t port = 0;
  // A colon within the host's name would be a scheme: "unix:5" opens a path.
  const absl::string_view allowed = bracketed ? "[]:.%-_" : ".-_";
  const bool plain = std::all_of(host.begin(), host.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           allowed.find(c) != absl::string_view::npos;
  });
  const std::string digits = address.substr(std::min(colon + 1, address.size()));
  const bool number = !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  if (plain && !host.empty() && address.size() <= kMaxAddress && number &&
      absl::SimpleAtoi(digits, &port) && port > 0 && port <= 65535)
    return absl::OkStatus();
  return Error(Reason::kRequestInvalid,
               absl::StrCat(field, " is not HOST:PORT of at most ", kMaxAddress, " characters"),
               {{"field", field}});
}

absl::StatusOr<std::shared_ptr<GrpcPeerProber::Stub>> GrpcPeerProber::StubFor(
    const std::string& address) {
  auto security = security_for_(address);
  if (!security.ok()) return security.status();
  std::lock_guard<std::mutex> lock(mutex_);
  connections_.remove_if([&](const Connection& kept) {
    return kept.address == address && kept.credentials != security->credentials;
  });
  for (auto i = connections_.begin(); i != connections_.end(); ++i) {
    if (i->address != address) continue;
    connections_.splice(connections_.begin(), connections_, i);
    return i->stub;
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Else a channel made anew would inherit the failed one's backoff.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  tls::ExpectServerName(security->server_name, arguments);
  auto channel = grpc::CreateCustomChannel("dns:///" + address, security->credentials, arguments);
  connections_.push_front({address, security->credentials, v1::TscAgent::NewStub(channel)});
  if (connections_.size() > kMaxConnections) connections_.pop_back();
  return connections_.front().stub;
}

void GrpcPeerProber::Forget(const std::string& address) {
  std::lock_guard<std::mutex> lock(mutex_);
  connections_.remove_if([&](const Connection& kept) { return kept.address == address; });
}

absl::Status GrpcPeerProber::OneRound(const std::string& address, Stub& stub, int64_t budget_ns,
                                      handoff::PeerAnswers& answers) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  if (const std::string& trace = TraceScope::Current(); !trace.empty())
    context.AddMetadata(kTraceparent, trace);
  // By the steady clock: of all programs this one shall not mind when the wall clock is stepped.
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_nanos(std::max<int64_t>(budget_ns, 0), GPR_TIMESPAN)));
  v1::ProbeClockResponse response;
  const auto sent = clock::TakeStamp(host_clock_, host_tsc_khz_);
  const grpc::Status status = stub.ProbeClock(&context, {}, &response);
  const auto received = clock::TakeStamp(host_clock_, host_tsc_khz_);
  if (!status.ok()) return Unreachable(address, Why(status));
  if (!sent.has_value() || !received.has_value())
    return Error(Reason::kHostTscUnstable, "every reading of the host's TSC went backwards");
  if (absl::Status same = CheckIdentity(address, response, answers); !same.ok()) return same;
  auto peer_received = FromProto(address, response.received());
  if (!peer_received.ok()) return peer_received.status();
  auto peer_sent = FromProto(address, response.sent());
  if (!peer_sent.ok()) return peer_sent.status();
  answers.rounds.push_back({*sent, *peer_received, *peer_sent, *received});
  answers.boot_id = response.boot_id();
  answers.peer_khz = response.host_tsc_khz();
  answers.claim = ClaimFromProto(response.clock());
  answers.claim_realtime_ns = response.clock().realtime_ns();
  return absl::OkStatus();
}

absl::StatusOr<handoff::PeerAnswers> GrpcPeerProber::Ask(const std::string& address,
                                                         int64_t budget_ns) {
  const int64_t end_ns = host_clock_.ReadMonotonicNs() + budget_ns;
  const auto stub = StubFor(address);
  if (!stub.ok()) return stub.status();
  handoff::PeerAnswers answers;
  for (int i = 0; i < kRounds; ++i) {
    const absl::Status status =
        OneRound(address, **stub, end_ns - host_clock_.ReadMonotonicNs(), answers);
    if (status.ok()) continue;
    Forget(address);
    return status;
  }
  return answers;
}

absl::StatusOr<handoff::PeerAnswers> GrpcPeerProber::Probe(const std::string& address,
                                                           int64_t budget_ns) {
  if (absl::Status status = CheckPeerAddress("peer", address); !status.ok()) return status;
  const int64_t start_ns = host_clock_.ReadMonotonicNs();
  // A kept connection may be dead without anybody knowing: it gets half of the time.
  auto answers = Ask(address, budget_ns / 2);
  if (answers.ok()) return answers;
  return Ask(address, budget_ns - (host_clock_.ReadMonotonicNs() - start_ns));
}

}  // namespace tsc_handoff::peer
