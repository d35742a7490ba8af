#include "server/service/tsc_agent_service.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/error.h"
#include "server/service/convert.h"
#include "server/service/rpc_status.h"

namespace tsc_handoff::service {
namespace {

namespace v1 = tschandoff::v1;

constexpr uint32_t kDefaultPage = 1000;
constexpr uint32_t kMaxPage = 10000;
constexpr int kLastErrno = 133;  // EHWPOISON

std::string ReasonLabel(const absl::Status& status) {
  if (status.ok()) return "";
  return std::string(ReasonName(ReasonOf(status).value_or(Reason::kInternalError)));
}

}  // namespace

std::vector<std::string> TscAgentService::MethodNames() {
  std::vector<std::string> names;
  const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
      v1::TscAgent::service_full_name());
  for (int i = 0; service != nullptr && i < service->method_count(); ++i)
    names.push_back(service->method(i)->name());
  return names;
}

grpc::ServerUnaryReactor* TscAgentService::GetHostInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetHostInfoRequest* /*request*/,
                                                       v1::GetHostInfoResponse* response) {
  return RunHere(context, "GetHostInfo", [this, response] {
    *response->mutable_host() =
        ToProto(parts_.host, parts_.clock_source.Read(), parts_.registry.size());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TscAgentService::ListVms(grpc::CallbackServerContext* context,
                                                   const v1::ListVmsRequest* request,
                                                   v1::ListVmsResponse* response) {
  return RunHere(context, "ListVms",
                 [this, request, response] { return DoListVms(*request, *response); });
}

grpc::ServerUnaryReactor* TscAgentService::GetVm(grpc::CallbackServerContext* context,
                                                 const v1::GetVmRequest* request,
                                                 v1::GetVmResponse* response) {
  return RunInPool(context, "GetVm",
                   [this, request, response] { return DoGetVm(request->vm_id(), *response); });
}

grpc::ServerUnaryReactor* TscAgentService::GetTscState(grpc::CallbackServerContext* context,
                                                       const v1::GetTscStateRequest* request,
                                                       v1::GetTscStateResponse* response) {
  return RunInPool(context, "GetTscState", [this, request, response] {
    return DoGetTscState(request->vm_id(), *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::SetTscState(grpc::CallbackServerContext* context,
                                                       const v1::SetTscStateRequest* request,
                                                       v1::SetTscStateResponse* response) {
  return RunInPool(context, "SetTscState",
                   [this, request, response] { return DoSetTscState(*request, *response); });
}

grpc::ServerUnaryReactor* TscAgentService::RunHere(grpc::CallbackServerContext* context,
                                                   const char* method, const Work& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time started = absl::Now();
  parts_.metrics.RpcStarted(method);
  Finish(context, reactor, method, started, work());
  return reactor;
}

grpc::ServerUnaryReactor* TscAgentService::RunInPool(grpc::CallbackServerContext* context,
                                                     const char* method, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time started = absl::Now();
  parts_.metrics.RpcStarted(method);
  const bool queued =
      parts_.pool.Run([this, context, reactor, method, started, work = std::move(work)] {
        Finish(context, reactor, method, started, work());
      });
  if (!queued) {
    Finish(context, reactor, method, started,
           Error(Reason::kLimitExceeded, "too many operations are waiting",
                 {{"limit", "queued operations"}}));
  }
  return reactor;
}

void TscAgentService::Finish(grpc::CallbackServerContext* context,
                             grpc::ServerUnaryReactor* reactor, const char* method,
                             absl::Time started, const absl::Status& status) {
  const grpc::Status result = ToGrpcStatus(status);
  parts_.metrics.RpcHandled(method, CodeName(result.error_code()), absl::Now() - started);
  if (!status.ok()) {
    spdlog::warn("{} from {} refused: reason={} {}", method, context->peer(), ReasonLabel(status),
                 std::string(status.message()));
  }
  reactor->Finish(result);
}

absl::Status TscAgentService::DoListVms(const v1::ListVmsRequest& request,
                                        v1::ListVmsResponse& response) {
  if (request.page_size() > kMaxPage) {
    return Error(Reason::kRequestInvalid, absl::StrCat("page_size is above ", kMaxPage),
                 {{"field", "page_size"}});
  }
  if (!request.page_token().empty()) {
    if (absl::Status status = CheckVmId(request.page_token()); !status.ok()) {
      return Error(Reason::kRequestInvalid, "page_token is not one that this agent gave",
                   {{"field", "page_token"}});
    }
  }
  const size_t page_size = request.page_size() == 0 ? kDefaultPage : request.page_size();
  const auto vms = parts_.registry.List(request.page_token(), page_size + 1);
  for (size_t i = 0; i < vms.size() && i < page_size; ++i) *response.add_vms() = ToProto(*vms[i]);
  if (vms.size() > page_size) response.set_next_page_token(vms[page_size - 1]->identity().vm_id);
  return absl::OkStatus();
}

absl::Status TscAgentService::DoGetVm(const std::string& vm_id, v1::GetVmResponse& response) {
  if (absl::Status status = CheckVmId(vm_id); !status.ok()) return status;
  auto vm = parts_.registry.Find(vm_id);
  if (!vm.ok()) return vm.status();
  // Somebody who operates on the VM right now learns its run state himself.
  if (registry::VmLease lease(*vm); lease.held()) {
    auto paused = lease.port().IsPaused();
    if (!paused.ok()) return paused.status();
    (*vm)->set_run_state(*paused ? registry::RunState::kPaused : registry::RunState::kRunning);
  }
  *response.mutable_vm() = ToProto(**vm);
  return absl::OkStatus();
}

absl::Status TscAgentService::DoGetTscState(const std::string& vm_id,
                                            v1::GetTscStateResponse& response) {
  if (absl::Status status = CheckVmId(vm_id); !status.ok()) return status;
  auto outcome = parts_.operations.Capture(vm_id);
  parts_.metrics.CaptureDone(ReasonLabel(outcome.status()));
  CountIoctlError(outcome.status());
  if (!outcome.ok()) return outcome.status();
  response = ToProto(*outcome);
  return absl::OkStatus();
}

absl::Status TscAgentService::DoSetTscState(const v1::SetTscStateRequest& request,
                                            v1::SetTscStateResponse& response) {
  auto apply = FromProto(request);
  auto outcome = apply.ok() ? parts_.operations.Apply(*apply)
                            : absl::StatusOr<handoff::ApplyOutcome>(apply.status());
  parts_.metrics.ApplyDone(ReasonLabel(outcome.status()));
  CountIoctlError(outcome.status());
  if (!outcome.ok()) return outcome.status();
  response = ToProto(*outcome);
  if (outcome->validated_only) return absl::OkStatus();
  metrics::AppliedValues values;
  values.phase_spread_ticks = outcome->phase_spread_ticks;
  values.phase_error_ticks = outcome->phase_error_ticks;
  values.elapsed_ns = outcome->elapsed_ns;
  if (outcome->bound.has_value()) values.error_bound_ns = outcome->bound->total_ns();
  parts_.metrics.Applied(values);
  spdlog::info(
      "applied TSC state: vm={} vcpus={} elapsed_ns={} error_bound_ns={} phase_error_ticks={}",
      request.vm_id(), outcome->vcpus.size(), values.elapsed_ns, values.error_bound_ns,
      values.phase_error_ticks);
  return absl::OkStatus();
}

void TscAgentService::CountIoctlError(const absl::Status& status) {
  if (status.ok()) return;
  const Metadata metadata = MetadataOf(status);
  const auto ioctl = metadata.find("ioctl");
  const auto error_number = metadata.find("errno");
  if (ioctl == metadata.end() || error_number == metadata.end()) return;
  // A VMM's word: only an errno that exists becomes a label.
  int number = 0;
  const bool known =
      absl::SimpleAtoi(error_number->second, &number) && number > 0 && number <= kLastErrno;
  parts_.metrics.IoctlFailed(ioctl->second, known ? error_number->second : "other");
}

}  // namespace tsc_handoff::service
