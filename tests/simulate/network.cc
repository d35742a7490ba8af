#include "tests/simulate/network.h"

#include <utility>
#include <variant>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "server/base/error.h"
#include "server/state/tsc_state_codec.h"
#include "tests/simulate/agent.h"
#include "tests/simulate/checker.h"

namespace tsc_handoff::simulate {
namespace {

namespace v1 = tschandoff::v1;
using client::AgentAnswer;
using client::AgentRequest;
using service::CallInfo;

constexpr int64_t kPatiencePs = 5 * kPsPerSecond;
constexpr int64_t kPsPerNs = clock_sim::kPsPerNs;

template <typename Response>
absl::StatusOr<AgentAnswer> Wrap(const absl::Status& status, Response response) {
  if (!status.ok()) return status;
  return AgentAnswer(std::move(response));
}

// What the delivered handlers make of a request.
struct Serve {
  Agent& agent;
  const CallInfo& call;

  absl::StatusOr<AgentAnswer> operator()(const v1::GetHostInfoRequest&) const {
    v1::GetHostInfoResponse response;
    const absl::Status status = agent.handlers().GetHostInfo({}, response);
    return Wrap(status, std::move(response));
  }
  absl::StatusOr<AgentAnswer> operator()(const v1::GetVmRequest& request) const {
    v1::GetVmResponse response;
    const absl::Status status = agent.handlers().GetVm(request, response);
    return Wrap(status, std::move(response));
  }
  absl::StatusOr<AgentAnswer> operator()(const v1::GetTscStateRequest& request) const {
    v1::GetTscStateResponse response;
    const absl::Status status = agent.handlers().GetTscState(call, request, response);
    if (status.ok() && !request.handoff_id().empty())
      agent.host().checker().Answered(agent.host(), request, response);
    return Wrap(status, std::move(response));
  }
  absl::StatusOr<AgentAnswer> operator()(const v1::SetTscStateRequest& request) const {
    v1::SetTscStateResponse response;
    const absl::Status status = agent.handlers().SetTscState(call, request, response);
    if (status.ok()) {
      const auto state = state::Decode(request.state());
      agent.host().checker().Answered(agent.host(), state->handoff->handoff_id, request, response);
    }
    return Wrap(status, std::move(response));
  }
  absl::StatusOr<AgentAnswer> operator()(const v1::CommitHandoffRequest& request) const {
    v1::CommitHandoffResponse response;
    const absl::Status status = agent.handlers().CommitHandoff(call, request, response);
    return Wrap(status, std::move(response));
  }
  absl::StatusOr<AgentAnswer> operator()(const v1::AbortHandoffRequest& request) const {
    v1::AbortHandoffResponse response;
    const absl::Status status = agent.handlers().AbortHandoff(call, request, response);
    return Wrap(status, std::move(response));
  }
  absl::StatusOr<AgentAnswer> operator()(const v1::GetHandoffRequest& request) const {
    v1::GetHandoffResponse response;
    const absl::Status status = agent.handlers().GetHandoff(call, request, response);
    return Wrap(status, std::move(response));
  }
};

void Count(Context& context, const absl::Status& status) {
  if (status.ok()) return;
  if (absl::IsCancelled(status)) return context.Count(Fact::kCancelled);
  const auto reason = ReasonOf(status);
  if (!reason.has_value()) return;
  switch (*reason) {
    case Reason::kHandoffConflict:
      return context.Count(Fact::kConflict);
    case Reason::kStaleEpoch:
      return context.Count(Fact::kStaleEpoch);
    case Reason::kHandoffDecided:
      return context.Count(Fact::kDecided);
    case Reason::kHandoffUndecided:
      return context.Count(Fact::kUndecided);
    case Reason::kVmBusy:
      return context.Count(Fact::kBusy);
    case Reason::kHandoffIdReused:
      return context.Count(Fact::kIdReused);
    case Reason::kClockUntrusted:
    case Reason::kClockBoundExceeded:
    case Reason::kTimeWouldGoBack:
      return context.Count(Fact::kClockRefused);
    case Reason::kVmRunning:
      return context.Count(Fact::kVmRunning);
    case Reason::kVmmGone:
      return context.Count(Fact::kVmmGone);
    case Reason::kJournalUnavailable:
      return context.Count(Fact::kJournalUnavailable);
    default:
      return;
  }
}

// As it arrives at a client: see service::ToGrpcStatus and client::AttachDetails.
absl::Status OverTheWire(const absl::Status& status) {
  if (status.ok() || absl::IsCancelled(status)) return status;
  const auto reason = ReasonOf(status);
  if (!reason.has_value() && !status.GetPayload("").has_value() && absl::IsUnavailable(status))
    return status;
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(ReasonName(reason.value_or(Reason::kInternalError))));
  info.set_domain("tsc-handoff");
  absl::Status sent(status.code(), status.message());
  sent.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info.SerializeAsString()));
  return sent;
}

}  // namespace

const char* NameOf(const AgentRequest& request) {
  static constexpr const char* kNames[] = {"GetHostInfo", "GetVm",         "GetTscState",
                                           "SetTscState", "CommitHandoff", "AbortHandoff",
                                           "GetHandoff"};
  return kNames[request.index()];
}

struct Network::Pending {
  std::shared_ptr<const AgentRequest> request;
  std::weak_ptr<const bool> alive;
  Done done;
  bool over = false;
  int64_t patient_until_ps = 0;
};

int64_t Network::TravelPs() {
  int64_t ps = context_.random().OctaveBetween(50 * kPsPerUs, 2 * kPsPerMs);
  if (context_.Strikes(context_.faults().message_slow)) {
    context_.Count(Fact::kMessageLate);
    ps += context_.random().OctaveBetween(kPsPerMs, 8 * kPsPerSecond);
  }
  return ps;
}

void Network::Call(Host& host, std::shared_ptr<const AgentRequest> request,
                   const std::shared_ptr<const bool>& alive, Done done) {
  auto call = std::make_shared<Pending>();
  call->request = std::move(request);
  call->alive = alive;
  call->done = std::move(done);
  call->patient_until_ps = context_.world().now_ps() + kPatiencePs;
  if (context_.Strikes(context_.faults().message_lost)) {
    context_.Count(Fact::kMessageLost);
    context_.Note("a ", NameOf(*call->request), " to host ", host.name(), " is lost");
  } else {
    context_.After(TravelPs(), [this, &host, call] { Arrive(host, call, false); });
  }
  if (context_.Strikes(context_.faults().request_again)) {
    context_.After(context_.random().OctaveBetween(kPsPerMs, 20 * kPsPerSecond),
                   [this, &host, call] { Arrive(host, call, true); });
  }
  int64_t patience_ps = kPatiencePs;
  if (context_.Strikes(context_.faults().caller_gives_up))
    patience_ps = context_.random().OctaveBetween(100 * kPsPerUs, 50 * kPsPerMs);
  context_.After(patience_ps, [this, call] {
    if (!call->over) Answer(call, absl::DeadlineExceededError("no answer in time"));
  });
}

void Network::Answer(const std::shared_ptr<Pending>& call, absl::StatusOr<AgentAnswer> answer) {
  if (call->over) return;
  call->over = true;
  if (call->alive.expired()) return;
  call->done(std::move(answer));
}

void Network::Arrive(Host& host, const std::shared_ptr<Pending>& call, bool again) {
  if (again) context_.Count(Fact::kMessageAgain);
  const std::shared_ptr<Agent> agent = host.agent();
  absl::StatusOr<AgentAnswer> answer = absl::UnavailableError("the connection is refused");
  if (agent != nullptr) {
    context_.Note("a ", NameOf(*call->request), " arrives at host ", host.name(),
                  again ? ", again" : "");
    CallInfo info;
    info.time_left_ns = again ? kPatiencePs / kPsPerNs
                              : (call->patient_until_ps - context_.world().now_ps()) / kPsPerNs;
    if (!again)
      info.cancelled = [pending = call.get()] { return pending->over || pending->alive.expired(); };
    try {
      agent->MayCrash("as a call arrives");
      answer = std::visit(Serve{*agent, info}, *call->request);
      if (context_.tracing())
        context_.Note("host ", host.name(), " answers ", NameOf(*call->request), ": ",
                      answer.status().ToString());
      Count(context_, answer.status());
      agent->MayCrash("before it answers");
      answer = answer.ok() ? std::move(answer)
                           : absl::StatusOr<AgentAnswer>(OverTheWire(answer.status()));
    } catch (const AgentCrash&) {
      answer = absl::UnavailableError("the connection has ended");
    }
  }
  if (again) return;  // nobody waits for it
  if (context_.Strikes(context_.faults().message_lost)) {
    context_.Count(Fact::kMessageLost);
    return;
  }
  context_.After(TravelPs(), [this, call, answer = std::move(answer)]() mutable {
    Answer(call, std::move(answer));
  });
}

}  // namespace tsc_handoff::simulate
