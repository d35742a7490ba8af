#include "server/service/tsc_agent_service.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/error.h"
#include "server/peer/grpc_peer_prober.h"
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

// Until the caller's deadline; a caller without one waits as long as it takes.
int64_t TimeLeftNs(const grpc::CallbackServerContext& context) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
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
        ToProto(parts_.host, parts_.timekeeper.Now(), parts_.registry.size());
    response->mutable_host()->set_peer_address(parts_.peer_address());
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
  return RunInPool(context, "SetTscState", [this, context, request, response] {
    return DoSetTscState(*context, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::ProbeClock(grpc::CallbackServerContext* context,
                                                      const v1::ProbeClockRequest* /*request*/,
                                                      v1::ProbeClockResponse* response) {
  return RunHere(context, "ProbeClock", [this, response] { return DoProbeClock(*response); });
}

grpc::ServerUnaryReactor* TscAgentService::CompareClocks(grpc::CallbackServerContext* context,
                                                         const v1::CompareClocksRequest* request,
                                                         v1::CompareClocksResponse* response) {
  return RunInPool(context, "CompareClocks", [this, request, response] {
    return DoCompareClocks(request->peer(), *response);
  });
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

absl::Status TscAgentService::DoSetTscState(const grpc::CallbackServerContext& context,
                                            const v1::SetTscStateRequest& request,
                                            v1::SetTscStateResponse& response) {
  auto apply = FromProto(request);
  if (apply.ok()) apply->time_left_ns = TimeLeftNs(context);
  auto outcome = apply.ok() ? parts_.operations.Apply(*apply)
                            : absl::StatusOr<handoff::ApplyOutcome>(apply.status());
  parts_.metrics.ApplyDone(ReasonLabel(outcome.status()));
  CountIoctlError(outcome.status());
  if (!outcome.ok()) return outcome.status();
  response = ToProto(*outcome);
  if (outcome->validated_only) return absl::OkStatus();
  const time::Elapsed& elapsed = outcome->time.elapsed;
  metrics::AppliedValues values;
  values.phase_spread_ticks = outcome->phase_spread_ticks;
  values.phase_error_ticks = outcome->phase_error_ticks;
  values.elapsed_ns = elapsed.elapsed_ns;
  values.commit_wait_ns = outcome->time.commit_wait_ns;
  values.rate_error_ppm = outcome->rate_error_ppm;
  values.accepted_untrusted_clock = elapsed.accepted_untrusted_clock;
  if (elapsed.bound.has_value()) values.error_bound_ns = elapsed.bound->total_ns();
  parts_.metrics.Applied(values);
  spdlog::info(
      "applied TSC state: vm={} vcpus={} elapsed_ns={} error_bound_ns={} phase_error_ticks={} "
      "commit_wait_ns={} probed={}",
      request.vm_id(), outcome->vcpus.size(), values.elapsed_ns, values.error_bound_ns,
      values.phase_error_ticks, values.commit_wait_ns, outcome->time.probe.has_value());
  return absl::OkStatus();
}

absl::Status TscAgentService::DoProbeClock(v1::ProbeClockResponse& response) {
  // First of all: what comes between arrival and this reading widens the caller's interval.
  const auto received = parts_.timekeeper.TakeStamp();
  if (!received.ok()) return received.status();
  response.set_boot_id(parts_.host.boot_id);
  response.set_host_tsc_khz(parts_.host.tsc.host_khz);
  *response.mutable_clock() = ToProto(parts_.timekeeper.Now());
  *response.mutable_received() = ToProto(*received);
  const auto sent = parts_.timekeeper.TakeStamp();
  if (!sent.ok()) return sent.status();
  *response.mutable_sent() = ToProto(*sent);
  return absl::OkStatus();
}

absl::Status TscAgentService::DoCompareClocks(const std::string& peer,
                                              v1::CompareClocksResponse& response) {
  if (absl::Status status = peer::CheckPeerAddress("peer", peer); !status.ok()) return status;
  auto comparison = parts_.timekeeper.Compare(peer);
  if (!comparison.ok()) return comparison.status();
  response = ToProto(*comparison);
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
