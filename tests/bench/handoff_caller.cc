#include "tests/bench/handoff_caller.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::bench {
namespace {

namespace v1 = tschandoff::v1;
using TscAgent = v1::TscAgent::Stub;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kTimeout{30};

// Unique on this machine and in its journals, which are made for one run.
std::string NewHandoffId() {
  static std::atomic<uint64_t> last{0};
  return absl::StrCat("bench-", getpid(), "-", ++last);
}

}  // namespace

HandoffCaller::HandoffCaller(const std::string (&agents)[2],
                             const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  for (int i = 0; i < 2; ++i) {
    grpc::ChannelArguments arguments;
    // Callers do not share a connection, as those of different orchestrators would not.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    ends_[i].channel = grpc::CreateCustomChannel(agents[i], credentials, arguments);
    ends_[i].stub = v1::TscAgent::NewStub(ends_[i].channel);
  }
}

absl::Status HandoffCaller::Connect() {
  for (End& end : ends_) {
    if (!end.channel->WaitForConnected(std::chrono::system_clock::now() + kTimeout))
      return absl::UnavailableError("an agent does not answer at its gRPC socket");
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kTimeout);
    v1::GetHostInfoResponse response;
    if (!end.stub->GetHostInfo(&context, {}, &response).ok())
      return absl::UnavailableError("GetHostInfo failed");
    end.agent_id = response.host().agent_id();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> HandoffCaller::VmsAt(int agent) {
  std::vector<std::string> ids;
  v1::ListVmsRequest request;
  do {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kTimeout);
    v1::ListVmsResponse response;
    if (!ends_[agent].stub->ListVms(&context, request, &response).ok())
      return absl::UnavailableError("ListVms failed");
    for (const v1::Vm& vm : response.vms()) {
      if (vm.may_run()) ids.push_back(vm.vm_id());
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  if (ids.empty()) return absl::NotFoundError("no VM may run there");
  return ids;
}

template <typename Request, typename Response>
absl::Status HandoffCaller::Call(const char* step, int at,
                                 grpc::Status (TscAgent::*method)(grpc::ClientContext*,
                                                                  const Request&, Response*),
                                 const Request& request, Response& response) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kTimeout);
  const auto started = SteadyClock::now();
  const grpc::Status status = ((*ends_[at].stub).*method)(&context, request, &response);
  const auto took = std::chrono::nanoseconds(SteadyClock::now() - started).count();
  if (!status.ok())
    return absl::InternalError(absl::StrCat(step, " failed: ", status.error_message()));
  steps_[step].Add(took);
  return absl::OkStatus();
}

absl::Status HandoffCaller::Handoff(const std::string& vm_id, int from) {
  const int to = 1 - from;
  v1::GetTscStateRequest get;
  get.set_vm_id(vm_id);
  get.set_handoff_id(NewHandoffId());
  get.set_destination_agent_id(ends_[to].agent_id);
  get.set_destination_vm_id(vm_id);
  v1::GetTscStateResponse captured;
  if (absl::Status status = Call("capture", from, &TscAgent::GetTscState, get, captured);
      !status.ok())
    return status;
  v1::SetTscStateRequest set;
  set.set_vm_id(vm_id);
  set.set_mode(v1::APPLY_MODE_ELAPSED);
  *set.mutable_state() = std::move(*captured.mutable_state());
  v1::SetTscStateResponse applied;
  if (absl::Status status = Call("apply", to, &TscAgent::SetTscState, set, applied); !status.ok())
    return status;
  if (applied.phase_error_ticks() != 0)
    return absl::InternalError("the phase was not kept: this measures nothing");
  v1::CommitHandoffRequest commit;
  commit.set_handoff_id(get.handoff_id());
  commit.set_side(v1::Handoff::SIDE_SOURCE);
  v1::CommitHandoffResponse committed;
  if (absl::Status status =
          Call("commit_source", from, &TscAgent::CommitHandoff, commit, committed);
      !status.ok())
    return status;
  commit.set_side(v1::Handoff::SIDE_DESTINATION);
  commit.set_release_proof(committed.handoff().release_proof());
  return Call("commit_destination", to, &TscAgent::CommitHandoff, commit, committed);
}

}  // namespace tsc_handoff::bench
