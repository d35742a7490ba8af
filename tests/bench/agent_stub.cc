#include "tests/bench/agent_stub.h"

#include <google/protobuf/empty.pb.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <grpcpp/impl/codegen/rpc_method.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::bench {
namespace {

namespace v1 = tschandoff::v1;

constexpr std::chrono::seconds kConnectTimeout{30};
constexpr std::chrono::seconds kCallTimeout{30};

// As a client would, and in every kind of call alike.
void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
}

absl::Status ToStatus(const char* method, const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(method, " failed with code ",
                                          static_cast<int>(status.error_code()), ": ",
                                          status.error_message()));
}

}  // namespace

AgentStub::AgentStub(const std::string& address, std::string vm_id,
                     const std::shared_ptr<grpc::ChannelCredentials>& credentials)
    : vm_id_(std::move(vm_id)),
      channel_(grpc::CreateChannel(address, credentials)),
      stub_(v1::TscAgent::NewStub(channel_)) {}

absl::Status AgentStub::Connect() {
  if (!channel_->WaitForConnected(std::chrono::system_clock::now() + kConnectTimeout))
    return absl::UnavailableError("the agent does not answer at its gRPC socket");
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetHostInfoResponse response;
  absl::Status status = ToStatus("GetHostInfo", stub_->GetHostInfo(&context, {}, &response));
  peer_address_ = response.host().peer_address();
  return status;
}

absl::Status AgentStub::Empty() {
  // Debian ships no health.proto. Its request is empty for the whole server, and whatever the
  // answer holds lands in the unknown fields.
  static const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                                grpc::internal::RpcMethod::NORMAL_RPC);
  grpc::ClientContext context;
  SetDeadline(context);
  google::protobuf::Empty response;
  return ToStatus("Health/Check",
                  grpc::internal::BlockingUnaryCall(channel_.get(), method, &context,
                                                    google::protobuf::Empty(), &response));
}

absl::Status AgentStub::GetHostInfo() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetHostInfoResponse response;
  return ToStatus("GetHostInfo", stub_->GetHostInfo(&context, {}, &response));
}

absl::Status AgentStub::GetVm() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetVmRequest request;
  request.set_vm_id(vm_id_);
  v1::GetVmResponse response;
  return ToStatus("GetVm", stub_->GetVm(&context, request, &response));
}

absl::Status AgentStub::CompareClocks() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::CompareClocksRequest request;
  request.set_peer(peer_address_);
  v1::CompareClocksResponse response;
  absl::Status status =
      ToStatus("CompareClocks", stub_->CompareClocks(&context, request, &response));
  if (!status.ok()) return status;
  probe_rounds_ = response.probe().rounds();
  probe_duration_ns_.Add(static_cast<int64_t>(response.probe().duration_ns()));
  probe_offset_error_ns_.Add(static_cast<int64_t>(response.probe().offset_error_ns()));
  return status;
}

absl::Status AgentStub::GetTscState() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetTscStateRequest request;
  request.set_vm_id(vm_id_);
  return ToStatus("GetTscState", stub_->GetTscState(&context, request, &got_));
}

void AgentStub::PrepareSet() {
  set_.set_vm_id(vm_id_);
  set_.set_mode(v1::APPLY_MODE_ELAPSED);
  *set_.mutable_state() = got_.state();
}

absl::Status AgentStub::SetTscState() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::SetTscStateResponse response;
  absl::Status status = ToStatus("SetTscState", stub_->SetTscState(&context, set_, &response));
  if (status.ok() && response.phase_error_ticks() != 0)
    return absl::InternalError("SetTscState did not keep the phase: this measures nothing");
  return status;
}

}  // namespace tsc_handoff::bench
