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

// Who and from where, for the log.
std::string PeerOf(const Admission& admission) {
  return absl::StrCat(NameOf(*admission.caller), " (", OriginOf(*admission.caller), ")");
}

void LogRefusal(const Admission& admission, const char* method, const absl::Status& status) {
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
              {"peer", PeerOf(admission)},
              {"reason", ReasonLabel(status)},
              {"why", status.message()}});
}

}  // namespace

// A call from its arrival to its answer.
struct TscAgentService::Call {
  grpc::CallbackServerContext* const context;
  grpc::ServerUnaryReactor* const reactor;
  const char* const method;
  const absl::Time started;
  const Admission admission;
  const bool wants_note;
  CallNote note;

  // Among whom the pool's threads are shared out.
  std::string caller() const { return NameOf(*admission.caller); }

  CallInfo Info() {
    CallInfo info;
    const auto left = context->deadline() - std::chrono::system_clock::now();
    if (left < kLongestDeadline)
      info.time_left_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    info.cancelled = [this] { return context->IsCancelled(); };
    // As long as the call lasts.
    if (!admission.vms.all)
      info.may_see = [this](const std::string& vm_id) { return admission.vms.Holds(vm_id); };
    if (wants_note) info.note = &note;
    return info;
  }
};

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

void TscAgentService::PolicyChanged() { watchers_.Recheck(); }

void TscAgentService::Stop() {
  stopping_ = true;
  watchers_.Stop();
}

grpc::ServerUnaryReactor* TscAgentService::GetHostInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetHostInfoRequest* /*request*/,
                                                       v1::GetHostInfoResponse* response) {
  return RunHere(Begin(context, "GetHostInfo", ""), [this, response](const CallInfo& info) {
    return parts_.handlers.GetHostInfo(info, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::ListVms(grpc::CallbackServerContext* context,
                                                   const v1::ListVmsRequest* request,
                                                   v1::ListVmsResponse* response) {
  return RunHere(Begin(context, "ListVms", ""), [this, request, response](const CallInfo& info) {
    return parts_.handlers.ListVms(info, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::GetVm(grpc::CallbackServerContext* context,
                                                 const v1::GetVmRequest* request,
                                                 v1::GetVmResponse* response) {
  return RunInPool(Begin(context, "GetVm", request->vm_id()),
                   [this, request, response](const CallInfo&) {
                     return parts_.handlers.GetVm(*request, *response);
                   });
}

grpc::ServerUnaryReactor* TscAgentService::GetTscState(grpc::CallbackServerContext* context,
                                                       const v1::GetTscStateRequest* request,
                                                       v1::GetTscStateResponse* response) {
  return RunStep(Begin(context, "GetTscState", request->vm_id()),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.GetTscState(info, *request, *response);
                 });
}

grpc::ServerUnaryReactor* TscAgentService::SetTscState(grpc::CallbackServerContext* context,
                                                       const v1::SetTscStateRequest* request,
                                                       v1::SetTscStateResponse* response) {
  return RunStep(Begin(context, "SetTscState", request->vm_id()),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.SetTscState(info, *request, *response);
                 });
}

grpc::ServerUnaryReactor* TscAgentService::CommitHandoff(grpc::CallbackServerContext* context,
                                                         const v1::CommitHandoffRequest* request,
                                                         v1::CommitHandoffResponse* response) {
  return RunStep(Begin(context, "CommitHandoff", ""),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.CommitHandoff(info, *request, *response);
                 });
}

grpc::ServerUnaryReactor* TscAgentService::AbortHandoff(grpc::CallbackServerContext* context,
                                                        const v1::AbortHandoffRequest* request,
                                                        v1::AbortHandoffResponse* response) {
  return RunStep(Begin(context, "AbortHandoff", ""),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.AbortHandoff(info, *request, *response);
                 });
}

grpc::ServerUnaryReactor* TscAgentService::ReclaimVm(grpc::CallbackServerContext* context,
                                                     const v1::ReclaimVmRequest* request,
                                                     v1::ReclaimVmResponse* response) {
  return RunStep(Begin(context, "ReclaimVm", request->vm_id()),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.ReclaimVm(info, *request, *response);
                 });
}

grpc::ServerUnaryReactor* TscAgentService::DisownVm(grpc::CallbackServerContext* context,
                                                    const v1::DisownVmRequest* request,
                                                    v1::DisownVmResponse* response) {
  return RunStep(Begin(context, "DisownVm", request->vm_id()),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.DisownVm(info, *request, *response);
                 });
}

grpc::ServerUnaryReactor* TscAgentService::GetHandoff(grpc::CallbackServerContext* context,
                                                      const v1::GetHandoffRequest* request,
                                                      v1::GetHandoffResponse* response) {
  return RunHere(Begin(context, "GetHandoff", ""), [this, request, response](const CallInfo& info) {
    return parts_.handlers.GetHandoff(info, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::ListHandoffs(grpc::CallbackServerContext* context,
                                                        const v1::ListHandoffsRequest* request,
                                                        v1::ListHandoffsResponse* response) {
  return RunHere(Begin(context, "ListHandoffs", request->vm_id()),
                 [this, request, response](const CallInfo& info) {
                   return parts_.handlers.ListHandoffs(info, *request, *response);
                 });
}

grpc::ServerWriteReactor<v1::WatchHandoffsResponse>* TscAgentService::WatchHandoffs(
    grpc::CallbackServerContext* context, const v1::WatchHandoffsRequest* request) {
  parts_.metrics.RpcStarted(kWatchHandoffs);
  const absl::Time started = absl::Now();
  const std::string vm_id = request->vm_id();
  const Admission admission = parts_.guard.Admit(*context, kWatchHandoffs, vm_id);
  const auto pending = [&] {
    handoff::ListQuery query;
    query.vm_id = vm_id;
    query.pending_only = true;
    query.limit = parts_.watchers.max_queued / 2;
    std::vector<v1::Handoff> handoffs;
    for (const handoff::HandoffView& view : parts_.handoffs.List(query))
      handoffs.push_back(ToProto(view));
    std::reverse(handoffs.begin(), handoffs.end());  // as they were begun
    return handoffs;
  };
  HandoffWatchers::Request watch;
  watch.caller = NameOf(*admission.caller);
  watch.refused = admission.status;
  watch.wants = [this, vm_id, admission](const std::string& id) {
    return (vm_id.empty() || id == vm_id) && parts_.guard.MayStill(admission).vms.Holds(id);
  };
  watch.still_permitted = [this, admission] { return parts_.guard.MayStill(admission).permitted; };
  watch.pending = pending;
  watch.done = [this, started, admission](const grpc::Status& status) {
    if (admission.status.ok() && status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      parts_.metrics.StreamLimited();
      LogLimited(LogLevel::kWarn, "refused",
                 {{"rpc", kWatchHandoffs},
                  {"peer", PeerOf(admission)},
                  {"reason", ReasonName(Reason::kLimitExceeded)},
                  {"why", status.error_message()}});
    }
    parts_.metrics.RpcHandled(kWatchHandoffs, CodeName(status.error_code()), absl::Now() - started);
  };
  if (!admission.status.ok()) {
    LogRefusal(admission, kWatchHandoffs, admission.status);
    parts_.guard.Ended(admission, kWatchHandoffs, {.vm_id = vm_id}, admission.status,
                       absl::Now() - started);
  }
  return watchers_.Watch(watch);
}

grpc::ServerUnaryReactor* TscAgentService::ProbeClock(grpc::CallbackServerContext* context,
                                                      const v1::ProbeClockRequest* /*request*/,
                                                      v1::ProbeClockResponse* response) {
  return RunHere(Begin(context, "ProbeClock", ""), [this, response](const CallInfo&) {
    return parts_.handlers.ProbeClock(*response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::CompareClocks(grpc::CallbackServerContext* context,
                                                         const v1::CompareClocksRequest* request,
                                                         v1::CompareClocksResponse* response) {
  return RunInPool(Begin(context, "CompareClocks", ""), [this, request, response](const CallInfo&) {
    return parts_.handlers.CompareClocks(*request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::Drain(grpc::CallbackServerContext* context,
                                                 const v1::DrainRequest* request,
                                                 v1::DrainResponse* response) {
  return RunHere(Begin(context, "Drain", ""), [this, request, response](const CallInfo& info) {
    return parts_.handlers.Drain(info, *request, *response);
  });
}

grpc::ServerUnaryReactor* TscAgentService::Reload(grpc::CallbackServerContext* context,
                                                  const v1::ReloadRequest* /*request*/,
                                                  v1::ReloadResponse* response) {
  return RunInPool(Begin(context, "Reload", ""), [this, response](const CallInfo& info) {
    return parts_.handlers.Reload(info, *response);
  });
}

std::shared_ptr<TscAgentService::Call> TscAgentService::Begin(grpc::CallbackServerContext* context,
                                                              const char* method,
                                                              const std::string& vm_id) {
  parts_.metrics.RpcStarted(method);
  const absl::Time started = absl::Now();
  Admission admission = parts_.guard.Admit(*context, method, vm_id);
  const bool wants_note = parts_.guard.WantsNote(admission);
  return std::make_shared<Call>(Call{.context = context,
                                     .reactor = context->DefaultReactor(),
                                     .method = method,
                                     .started = started,
                                     .admission = std::move(admission),
                                     .wants_note = wants_note,
                                     .note = {.vm_id = vm_id}});
}

absl::Status TscAgentService::Refusal(const Call& call) const {
  return stopping_ ? Stopping() : call.admission.status;
}

grpc::ServerUnaryReactor* TscAgentService::RunHere(const std::shared_ptr<Call>& call,
                                                   const Work& work) {
  const CallScope scope(*call->context);
  absl::Status status = Refusal(*call);
  if (status.ok()) status = work(call->Info());
  Finish(*call, status);
  return call->reactor;
}

grpc::ServerUnaryReactor* TscAgentService::RunInPool(const std::shared_ptr<Call>& call, Work work) {
  absl::Status status = Refusal(*call);
  if (status.ok() && !parts_.pool.Run(call->caller(), [this, call, work = std::move(work)] {
        const CallScope scope(*call->context);
        Finish(*call, work(call->Info()));
      }))
    status = TooMany();
  if (!status.ok()) Finish(*call, status);
  return call->reactor;
}

grpc::ServerUnaryReactor* TscAgentService::RunStep(const std::shared_ptr<Call>& call, Work work) {
  std::function<void()> run = [this, call, work = std::move(work)] {
    const CallScope scope(*call->context);
    std::vector<std::function<void()>> afterwards;
    CallInfo info = call->Info();
    info.afterwards = [&](std::function<void()> what) { afterwards.push_back(std::move(what)); };
    Finish(*call, work(info));
    // The call is over: from here on nothing of it may be touched.
    for (const auto& what : afterwards) what();
  };
  const std::unique_lock<std::mutex> here(here_, std::try_to_lock);
  if (absl::Status refusal = Refusal(*call); !refusal.ok()) {
    Finish(*call, refusal);
  } else if (here.owns_lock()) {
    run();
  } else if (!parts_.pool.Run(call->caller(), std::move(run))) {
    Finish(*call, TooMany());
  }
  return call->reactor;
}

void TscAgentService::Finish(Call& call, const absl::Status& status) {
  const grpc::Status result = ToGrpcStatus(status);
  const absl::Duration took = absl::Now() - call.started;
  parts_.metrics.RpcHandled(call.method, CodeName(result.error_code()), took);
  if (absl::IsCancelled(status)) {
    LogLimited(LogLevel::kInfo, "cancelled",
               {{"rpc", call.method}, {"peer", PeerOf(call.admission)}});
  } else if (!status.ok()) {
    LogRefusal(call.admission, call.method, status);
  }
  parts_.guard.Ended(call.admission, call.method, call.note, status, took);
  call.reactor->Finish(result);
}

}  // namespace tsc_handoff::service
