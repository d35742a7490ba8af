#include "server/service/tsc_agent_service.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/error.h"
#include "server/base/log.h"
#include "server/base/trace.h"
#include "server/service/convert.h"
#include "server/service/rpc_status.h"

namespace tsc_handoff::service {
namespace {

namespace v1 = tschandoff::v1;

absl::Status Stopping() { return Error(Reason::kAgentStopping, "the agent is stopping"); }

absl::Status TooMany() {
  return Error(Reason::kLimitExceeded, "too many operations are waiting",
               {{"limit", "queued operations"}});
}

// Deadlines beyond this are none: gRPC's "infinite future" is a finite point in time.
constexpr std::chrono::hours kLongestDeadline{24 * 365};

constexpr char kWatchHandoffs[] = "WatchHandoffs";

// What the log's lines and the calls to other agents say of the call that this thread works on.
class CallScope {
 public:
  explicit CallScope(const grpc::CallbackServerContext& context)
      : trace_(TraceparentOf(context)), log_({{"trace", TraceIdOf(TraceScope::Current())}}) {}

 private:
  static absl::string_view TraceparentOf(const grpc::CallbackServerContext& context) {
    const auto found = context.client_metadata().find(kTraceparent);
    if (found == context.client_metadata().end()) return "";
    return {found->second.data(), found->second.size()};
  }

  const TraceScope trace_;
  const LogContext log_;
};

CallInfo InfoOf(const grpc::CallbackServerContext& context) {
  CallInfo info;
  const auto left = context.deadline() - std::chrono::system_clock::now();
  if (left < kLongestDeadline)
    info.time_left_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  info.cancelled = [&context] { return context.IsCancelled(); };
  return info;
}

}  // namespace

TscAgentService::~TscAgentService() { const std::lock_guard<std::mutex> here(here_); }

std::vector<std::string> TscAgentService::MethodNames() {
  std::vector<std::string> names;
  const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
      v1::TscAgent::service_full_name());
  for (int i = 0; service != nullptr && i < service->method_count(); ++i)
    names.push_back(service->method(i)->name());
  return names;
}

void TscAgentService::Changed(const journal::HandoffRecord& record) {
  if (!watchers_.any()) return;
  handoff::HandoffView view;
  view.record = std::make_shared<const journal::HandoffRecord>(record);
  watchers_.Publish(ToProto(view));
}

void TscAgentService::Stop() {
  stopping_ = true;
  watchers_.Stop();
}

grpc::ServerUnaryReactor* TscAgentService::GetHostInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetHostInfoRequest* /*request*/,
                                                       v1::GetHostInfoResponse* response) {
  return RunHere(context, "GetHostInfo",
                 [this, response] { return parts_.handlers.GetHostInfo(*response); });
}

grpc::ServerUnaryReactor* TscAgentService::ListVms(grpc::CallbackServerContext* context,
                                                   const v1::ListVmsRequest* request,
                                                   v1::ListVmsResponse* response) {
  return RunHere(context, "ListVms", [this, request, response] {
    return parts_.handlers.ListVms(*request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::GetVm(grpc::CallbackServerContext* context,
                                                 const v1::GetVmRequest* request,
                                                 v1::GetVmResponse* response) {
  return RunInPool(context, "GetVm", [this, request, response] {
    return parts_.handlers.GetVm(*request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::GetTscState(grpc::CallbackServerContext* context,
                                                       const v1::GetTscStateRequest* request,
                                                       v1::GetTscStateResponse* response) {
  return RunStep(context, "GetTscState", [this, request, response](const CallInfo& call) {
    return parts_.handlers.GetTscState(call, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::SetTscState(grpc::CallbackServerContext* context,
                                                       const v1::SetTscStateRequest* request,
                                                       v1::SetTscStateResponse* response) {
  return RunStep(context, "SetTscState", [this, request, response](const CallInfo& call) {
    return parts_.handlers.SetTscState(call, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::CommitHandoff(grpc::CallbackServerContext* context,
                                                         const v1::CommitHandoffRequest* request,
                                                         v1::CommitHandoffResponse* response) {
  return RunStep(context, "CommitHandoff", [this, request, response](const CallInfo& call) {
    return parts_.handlers.CommitHandoff(call, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::AbortHandoff(grpc::CallbackServerContext* context,
                                                        const v1::AbortHandoffRequest* request,
                                                        v1::AbortHandoffResponse* response) {
  return RunStep(context, "AbortHandoff", [this, request, response](const CallInfo& call) {
    return parts_.handlers.AbortHandoff(call, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::ReclaimVm(grpc::CallbackServerContext* context,
                                                     const v1::ReclaimVmRequest* request,
                                                     v1::ReclaimVmResponse* response) {
  return RunStep(context, "ReclaimVm", [this, request, response](const CallInfo& call) {
    return parts_.handlers.ReclaimVm(call, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::DisownVm(grpc::CallbackServerContext* context,
                                                    const v1::DisownVmRequest* request,
                                                    v1::DisownVmResponse* response) {
  return RunStep(context, "DisownVm", [this, request, response](const CallInfo& call) {
    return parts_.handlers.DisownVm(call, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::GetHandoff(grpc::CallbackServerContext* context,
                                                      const v1::GetHandoffRequest* request,
                                                      v1::GetHandoffResponse* response) {
  return RunHere(context, "GetHandoff", [this, request, response] {
    return parts_.handlers.GetHandoff(*request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::ListHandoffs(grpc::CallbackServerContext* context,
                                                        const v1::ListHandoffsRequest* request,
                                                        v1::ListHandoffsResponse* response) {
  return RunHere(context, "ListHandoffs", [this, request, response] {
    return parts_.handlers.ListHandoffs(*request, *response);
  });
}

grpc::ServerWriteReactor<v1::WatchHandoffsResponse>* TscAgentService::WatchHandoffs(
    grpc::CallbackServerContext* /*context*/, const v1::WatchHandoffsRequest* request) {
  parts_.metrics.RpcStarted(kWatchHandoffs);
  const absl::Time started = absl::Now();
  const std::string vm_id = request->vm_id();
  const auto pending = [&] {
    handoff::ListQuery query;
    query.vm_id = vm_id;
    query.pending_only = true;
    query.limit = HandoffWatchers::kMaxQueued / 2;
    std::vector<v1::Handoff> handoffs;
    for (const handoff::HandoffView& view : parts_.handoffs.List(query))
      handoffs.push_back(ToProto(view));
    std::reverse(handoffs.begin(), handoffs.end());  // as they were begun
    return handoffs;
  };
  return watchers_.Watch(vm_id, pending, [this, started](const grpc::Status& status) {
    parts_.metrics.RpcHandled(kWatchHandoffs, CodeName(status.error_code()), absl::Now() - started);
  });
}

grpc::ServerUnaryReactor* TscAgentService::ProbeClock(grpc::CallbackServerContext* context,
                                                      const v1::ProbeClockRequest* /*request*/,
                                                      v1::ProbeClockResponse* response) {
  return RunHere(context, "ProbeClock",
                 [this, response] { return parts_.handlers.ProbeClock(*response); });
}

grpc::ServerUnaryReactor* TscAgentService::CompareClocks(grpc::CallbackServerContext* context,
                                                         const v1::CompareClocksRequest* request,
                                                         v1::CompareClocksResponse* response) {
  return RunInPool(context, "CompareClocks", [this, request, response] {
    return parts_.handlers.CompareClocks(*request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::Drain(grpc::CallbackServerContext* context,
                                                 const v1::DrainRequest* request,
                                                 v1::DrainResponse* response) {
  return RunHere(context, "Drain", [this, context, request, response] {
    return parts_.handlers.Drain(InfoOf(*context), *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::Reload(grpc::CallbackServerContext* context,
                                                  const v1::ReloadRequest* /*request*/,
                                                  v1::ReloadResponse* response) {
  return RunInPool(context, "Reload", [this, context, response] {
    return parts_.handlers.Reload(InfoOf(*context), *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::RunHere(grpc::CallbackServerContext* context,
                                                   const char* method, const Work& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time started = absl::Now();
  parts_.metrics.RpcStarted(method);
  const CallScope scope(*context);
  Finish(context, reactor, method, started, stopping_ ? Stopping() : work());
  return reactor;
}

grpc::ServerUnaryReactor* TscAgentService::RunInPool(grpc::CallbackServerContext* context,
                                                     const char* method, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time started = absl::Now();
  parts_.metrics.RpcStarted(method);
  const bool queued = !stopping_ && parts_.pool.Run([this, context, reactor, method, started,
                                                     work = std::move(work)] {
    const CallScope scope(*context);
    Finish(context, reactor, method, started, work());
  });
  if (!queued) {
    Finish(context, reactor, method, started, stopping_ ? Stopping() : TooMany());
  }
  return reactor;
}

grpc::ServerUnaryReactor* TscAgentService::RunStep(grpc::CallbackServerContext* context,
                                                   const char* method, Step step) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::Time started = absl::Now();
  parts_.metrics.RpcStarted(method);
  std::function<void()> run = [this, context, reactor, method, started, step = std::move(step)] {
    const CallScope scope(*context);
    std::vector<std::function<void()>> afterwards;
    CallInfo call = InfoOf(*context);
    call.afterwards = [&](std::function<void()> what) { afterwards.push_back(std::move(what)); };
    Finish(context, reactor, method, started, step(call));
    // The call is over: from here on nothing of it may be touched.
    for (const auto& what : afterwards) what();
  };
  const std::unique_lock<std::mutex> here(here_, std::try_to_lock);
  if (stopping_) {
    Finish(context, reactor, method, started, Stopping());
  } else if (here.owns_lock()) {
    run();
  } else if (!parts_.pool.Run(std::move(run))) {
    Finish(context, reactor, method, started, TooMany());
  }
  return reactor;
}

void TscAgentService::Finish(grpc::CallbackServerContext* context,
                             grpc::ServerUnaryReactor* reactor, const char* method,
                             absl::Time started, const absl::Status& status) {
  const grpc::Status result = ToGrpcStatus(status);
  parts_.metrics.RpcHandled(method, CodeName(result.error_code()), absl::Now() - started);
  if (absl::IsCancelled(status)) {
    LogLimited(LogLevel::kInfo, "cancelled", {{"rpc", method}, {"peer", context->peer()}});
  } else if (!status.ok()) {
    // The caller knows of what he asked; here it says which VM and handoff that was.
    const Metadata about = MetadataOf(status);
    const auto value = [&](const char* key) {
      const auto found = about.find(key);
      return found == about.end() ? std::string() : found->second;
    };
    const LogContext named(
        {{"vm", value("vm_id")}, {"handoff", value("handoff_id")}, {"epoch", value("epoch")}});
    LogLimited(LogLevel::kWarn, "refused",
               {{"rpc", method},
                {"peer", context->peer()},
                {"reason", ReasonLabel(status)},
                {"why", status.message()}});
  }
  reactor->Finish(result);
}

}  // namespace tsc_handoff::service
