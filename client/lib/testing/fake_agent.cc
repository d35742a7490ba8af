#include "client/lib/testing/fake_agent.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/error_details.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "client/lib/testing/seal_state.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tschandoff/v1/error_reason.pb.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::client {

namespace v1 = ::tschandoff::v1;

namespace {

constexpr uint64_t kHostTscTicks = 5'000'000'000'000;
constexpr uint32_t kHostTscKhz = 2'600'000;
constexpr uint64_t kRealtimeNs = 1'700'000'000'000'000'000;

grpc::Status ToGrpc(const FakeError& error) {
  const auto code = static_cast<grpc::StatusCode>(error.code);
  if (error.reason.empty()) return grpc::Status(code, error.message);
  google::rpc::ErrorInfo info;
  info.set_reason(error.reason);
  info.set_domain("tsc-handoff");
  for (const auto& [key, value] : error.metadata) (*info.mutable_metadata())[key] = value;
  google::rpc::Status details;
  details.set_code(static_cast<int>(error.code));
  details.set_message(error.message);
  details.add_details()->PackFrom(info);
  grpc::Status status;
  grpc::SetErrorDetails(details, &status);
  return status;
}

grpc::Status Refuse(absl::StatusCode code, v1::ErrorReason reason, const std::string& message,
                    const std::string& vm_id, const std::string& next_step) {
  return ToGrpc(
      {code, message, v1::ErrorReason_Name(reason), {{"vm_id", vm_id}, {"next_step", next_step}}});
}

v1::TimeReference Reference(uint64_t realtime_ns) {
  v1::TimeReference reference;
  reference.set_host_tsc_ticks(kHostTscTicks);
  reference.set_realtime_ns(realtime_ns);
  reference.set_tai_offset_s(37);
  reference.set_read_error_ns(120);
  reference.set_clock_error_ns(20'000);
  reference.set_clock_trusted(true);
  reference.set_host_tsc_khz(kHostTscKhz);
  reference.set_method(v1::TimeReference::METHOD_BRACKETED);
  return reference;
}

// What a source discloses, and what stands in its tickets; one handoff's are like another's here.
const std::string kReleaseProof(16, 'r');
const std::string kAbortProof(16, 'a');
// Of a VM where it is disowned.
constexpr uint64_t kDisownedEpoch = 41;

v1::TscState Capture(const FakeVm& vm, const std::string& boot_id, uint32_t format_version,
                     const std::optional<v1::HandoffTicket>& ticket) {
  v1::TscStatePayload payload;
  payload.set_vm_id(vm.vm_id);
  *payload.mutable_reference() = Reference(kRealtimeNs);
  payload.set_guest_tsc_khz(vm.guest_tsc_khz);
  payload.set_vcpu_count(static_cast<uint32_t>(vm.vcpus.size()));
  uint32_t next_id = 0;
  for (const VcpuView& vcpu : vm.vcpus) {
    payload.add_vcpu_id_gap(vcpu.id - next_id);
    payload.add_guest_tsc_ticks(vcpu.guest_tsc_ticks);
    payload.add_tsc_adjust_ticks(vcpu.tsc_adjust_ticks);
    payload.add_tsc_deadline_ticks(vcpu.tsc_deadline_ticks);
    next_id = vcpu.id + 1;
  }
  payload.mutable_kvmclock()->set_kvmclock_ns(77'000'000);
  payload.set_boot_id(boot_id);
  if (ticket.has_value()) *payload.mutable_handoff() = *ticket;
  return SealState(payload, format_version);
}

// 16 bytes that no other FakeAgent of this process has.
std::string NewBootId() {
  static std::atomic<uint8_t> count{0};
  return std::string(15, '\x5a') + static_cast<char>(count++);
}

v1::ClockInfo Clock() {
  v1::ClockInfo clock;
  clock.set_trusted(true);
  clock.set_error_bound_ns(20'000);
  clock.set_source("kernel");
  clock.set_tai_offset_s(37);
  clock.set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
  clock.set_age_ns(1'200'000'000);
  clock.set_realtime_ns(static_cast<int64_t>(kRealtimeNs));
  return clock;
}

v1::HostInfo Host() {
  v1::HostInfo host;
  host.set_host_name("fake-host");
  host.set_agent_version("1.2.3");
  host.set_kernel_release("6.1.0-fake");
  host.set_boot_id(NewBootId());
  host.set_tsc_khz(kHostTscKhz);
  host.set_tsc_stable(true);
  host.set_kvm_available(true);
  *host.mutable_clock() = Clock();
  host.set_simulated(true);
  host.set_agent_id(host.boot_id());
  return host;
}

v1::ClockProbe Probe() {
  v1::ClockProbe probe;
  probe.set_offset_ns(1'500);
  probe.set_offset_error_ns(300);
  probe.set_round_trip_ns(650);
  probe.set_rounds(8);
  probe.set_duration_ns(20'000);
  return probe;
}

v1::CompareClocksResponse Agreement() {
  v1::CompareClocksResponse response;
  *response.mutable_probe() = Probe();
  *response.mutable_local() = Clock();
  *response.mutable_peer() = Clock();
  response.set_verdict(v1::CompareClocksResponse::VERDICT_AGREE);
  return response;
}

// The state in the format that DecodeState knows.
v1::TscState InFormat1(const v1::TscState& state) {
  v1::TscStatePayload payload;
  return payload.ParseFromString(state.payload()) ? SealState(payload) : state;
}

}  // namespace

FakeVm MakeFakeVm(const std::string& vm_id, int count) {
  FakeVm vm{.vm_id = vm_id, .vcpus = {}};
  for (int i = 0; i < count; ++i) {
    const auto index = static_cast<uint64_t>(i);
    vm.vcpus.push_back({.id = static_cast<uint32_t>(i),
                        .guest_tsc_ticks = 1'000'000'000'000 + 1000 * index,
                        .tsc_adjust_ticks = -static_cast<int64_t>(i) * 7,
                        .tsc_deadline_ticks = 0});
  }
  return vm;
}

// The programmed faults and the VMs, under one mutex; handlers are short.
class FakeAgent::Service final : public v1::TscAgent::CallbackService {
 public:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* GetHostInfo(Context* context, const v1::GetHostInfoRequest*,
                       v1::GetHostInfoResponse* response) override {
    return Serve(context, "GetHostInfo", [this, response] {
      *response->mutable_host() = host;
      response->mutable_host()->set_vm_count(static_cast<uint32_t>(vms.size()));
      return grpc::Status::OK;
    });
  }

  Reactor* CompareClocks(Context* context, const v1::CompareClocksRequest* request,
                         v1::CompareClocksResponse* response) override {
    return Serve(context, "CompareClocks", [this, request, response] {
      last_peer = request->peer();
      *response = comparison;
      return grpc::Status::OK;
    });
  }

  Reactor* ListVms(Context* context, const v1::ListVmsRequest* request,
                   v1::ListVmsResponse* response) override {
    return Serve(context, "ListVms", [this, request, response] {
      if (endless_pages) {
        response->set_next_page_token("again");
        return grpc::Status::OK;
      }
      for (auto it = vms.upper_bound(request->page_token()); it != vms.end(); ++it) {
        if (static_cast<uint32_t>(response->vms_size()) == page_limit) {
          response->set_next_page_token(response->vms(response->vms_size() - 1).vm_id());
          break;
        }
        FillVm(it->second, response->add_vms());
      }
      return grpc::Status::OK;
    });
  }

  Reactor* GetVm(Context* context, const v1::GetVmRequest* request,
                 v1::GetVmResponse* response) override {
    return Serve(context, "GetVm", [this, request, response] {
      const auto it = vms.find(request->vm_id());
      if (it == vms.end()) return NotFound(request->vm_id());
      FillVm(it->second, response->mutable_vm());
      return grpc::Status::OK;
    });
  }

  Reactor* GetTscState(Context* context, const v1::GetTscStateRequest* request,
                       v1::GetTscStateResponse* response) override {
    return Serve(context, "GetTscState", [this, request, response] {
      const bool handoff = !request->handoff_id().empty();
      const Key key(request->handoff_id(), v1::Handoff::SIDE_SOURCE);
      if (handoff && handoffs.count(key) > 0) {
        if (handoffs[key].state() == v1::Handoff::STATE_ABORTED) return Decided(handoffs[key]);
        *response = captures[request->handoff_id()];
        return grpc::Status::OK;
      }
      const auto it = vms.find(request->vm_id());
      if (it == vms.end()) return NotFound(request->vm_id());
      if (it->second.running) return Running(request->vm_id());
      std::optional<v1::HandoffTicket> ticket;
      if (handoff) ticket = Begin(*request);
      *response->mutable_state() = Capture(it->second, host.boot_id(), format_version, ticket);
      if (damage_next_capture) response->mutable_state()->set_crc32(~response->state().crc32());
      damage_next_capture = false;
      v1::StateSummary* summary = response->mutable_summary();
      summary->set_vcpu_count(static_cast<uint32_t>(it->second.vcpus.size()));
      summary->set_guest_tsc_khz(it->second.guest_tsc_khz);
      *summary->mutable_reference() = Reference(kRealtimeNs);
      summary->set_state_bytes(static_cast<uint32_t>(response->state().ByteSizeLong()));
      v1::Warning* warning = response->add_warnings();
      warning->set_code(v1::Warning::CODE_MASTER_CLOCK_OFF);
      warning->set_message("offsets are unequal");
      if (handoff) captures[request->handoff_id()] = *response;
      return grpc::Status::OK;
    });
  }

  Reactor* SetTscState(Context* context, const v1::SetTscStateRequest* request,
                       v1::SetTscStateResponse* response) override {
    return Serve(context, "SetTscState", [this, request, response] {
      last_set = *request;
      const v1::HandoffTicket ticket = TicketOf(request->state());
      const bool handoff = !ticket.handoff_id().empty() && !request->validate_only();
      const Key key(ticket.handoff_id(), v1::Handoff::SIDE_DESTINATION);
      if (handoff && handoffs.count(key) > 0 && handoffs[key].state() != v1::Handoff::STATE_EMPTY) {
        if (handoffs[key].state() == v1::Handoff::STATE_ABORTED) return Decided(handoffs[key]);
        *response = applies[ticket.handoff_id()];
        return grpc::Status::OK;
      }
      grpc::Status status = Apply(*request, response);
      if (status.ok() && misreport.has_value()) {
        v1::VcpuResult* vcpu = response->mutable_vcpus(misreport->first);
        vcpu->set_guest_tsc_ticks(vcpu->guest_tsc_ticks() +
                                  static_cast<uint64_t>(misreport->second));
        misreport.reset();
      }
      if (status.ok() && edit_next_apply) std::exchange(edit_next_apply, nullptr)(*response);
      if (status.ok() && handoff) {
        Record(key, request->vm_id(), v1::Handoff::STATE_APPLIED, ticket);
        applies[ticket.handoff_id()] = *response;
      }
      if (lose_next_set_answer) {
        lose_next_set_answer = false;
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "Socket closed");
      }
      return status;
    });
  }

  Reactor* CommitHandoff(Context* context, const v1::CommitHandoffRequest* request,
                         v1::CommitHandoffResponse* response) override {
    return Serve(context, "CommitHandoff", [this, request, response] {
      const Key key(request->handoff_id(), request->side());
      if (handoffs.count(key) == 0) return UnknownHandoff(request->handoff_id());
      v1::Handoff& handoff = handoffs[key];
      if (handoff.state() == v1::Handoff::STATE_ABORTED) return Decided(handoff);
      if (request->side() == v1::Handoff::SIDE_SOURCE) {
        handoff.set_state(v1::Handoff::STATE_RELEASED);
        handoff.set_release_proof(kReleaseProof);
      } else if (request->release_proof() != kReleaseProof ||
                 handoff.state() == v1::Handoff::STATE_EMPTY) {
        return Undecided(handoff);
      } else {
        handoff.set_state(v1::Handoff::STATE_ACTIVE);
        Permit(handoff.vm_id(), true);
      }
      Tell(handoff);
      *response->mutable_handoff() = handoff;
      return grpc::Status::OK;
    });
  }

  Reactor* AbortHandoff(Context* context, const v1::AbortHandoffRequest* request,
                        v1::AbortHandoffResponse* response) override {
    return Serve(context, "AbortHandoff", [this, request, response] {
      const Key key(request->handoff_id(), request->side());
      const bool source = request->side() == v1::Handoff::SIDE_SOURCE;
      if (handoffs.count(key) == 0 && source) return UnknownHandoff(request->handoff_id());
      if (handoffs.count(key) == 0) Record(key, "", v1::Handoff::STATE_EMPTY, request->ticket());
      v1::Handoff& handoff = handoffs[key];
      if (handoff.state() == v1::Handoff::STATE_RELEASED ||
          handoff.state() == v1::Handoff::STATE_ACTIVE)
        return Decided(handoff);
      if (!source && request->abort_proof() != kAbortProof) return Undecided(handoff);
      handoff.set_state(v1::Handoff::STATE_ABORTED);
      if (source) {
        handoff.set_abort_proof(kAbortProof);
        Permit(handoff.vm_id(), true);
      }
      Tell(handoff);
      *response->mutable_handoff() = handoff;
      return grpc::Status::OK;
    });
  }

  Reactor* ReclaimVm(Context* context, const v1::ReclaimVmRequest* request,
                     v1::ReclaimVmResponse* response) override {
    return Serve(context, "ReclaimVm", [this, request, response] {
      if (vms.count(request->vm_id()) == 0) return NotFound(request->vm_id());
      response->set_repeated(vms[request->vm_id()].may_run);
      Permit(request->vm_id(), true);
      response->set_epoch(request->epoch_above() + 1);
      return grpc::Status::OK;
    });
  }

  Reactor* DisownVm(Context* context, const v1::DisownVmRequest* request,
                    v1::DisownVmResponse* response) override {
    return Serve(context, "DisownVm", [this, request, response] {
      const Key key(request->handoff_id(), v1::Handoff::SIDE_DESTINATION);
      if (handoffs.count(key) == 0) return UnknownHandoff(request->handoff_id());
      if (handoffs[key].state() != v1::Handoff::STATE_ACTIVE) return Undecided(handoffs[key]);
      response->set_epoch(kDisownedEpoch);
      return grpc::Status::OK;
    });
  }

  Reactor* GetHandoff(Context* context, const v1::GetHandoffRequest* request,
                      v1::GetHandoffResponse* response) override {
    return Serve(context, "GetHandoff", [this, request, response] {
      const auto source = handoffs.find({request->handoff_id(), v1::Handoff::SIDE_SOURCE});
      const auto destination =
          handoffs.find({request->handoff_id(), v1::Handoff::SIDE_DESTINATION});
      if (source != handoffs.end()) *response->mutable_source() = source->second;
      if (destination != handoffs.end()) *response->mutable_destination() = destination->second;
      return source == handoffs.end() && destination == handoffs.end()
                 ? UnknownHandoff(request->handoff_id())
                 : grpc::Status::OK;
    });
  }

  Reactor* ListHandoffs(Context* context, const v1::ListHandoffsRequest* request,
                        v1::ListHandoffsResponse* response) override {
    return Serve(context, "ListHandoffs", [this, request, response] {
      for (const auto& [key, handoff] : handoffs) {
        if (request->pending_only() && !IsPending(handoff.state())) continue;
        if (request->undecided_only() && !handoff.undecided()) continue;
        if (!request->vm_id().empty() && request->vm_id() != handoff.vm_id()) continue;
        *response->add_handoffs() = handoff;
      }
      return grpc::Status::OK;
    });
  }

  grpc::ServerWriteReactor<v1::WatchHandoffsResponse>* WatchHandoffs(
      Context*, const v1::WatchHandoffsRequest* request) override {
    const std::lock_guard<std::mutex> lock(mutex);
    ++calls["WatchHandoffs"];
    auto* watcher = new Watcher(*this, request->vm_id());
    std::vector<FakeError>& programmed = failures["WatchHandoffs"];
    if (!programmed.empty()) {
      watcher->End(ToGrpc(programmed.front()));
      programmed.erase(programmed.begin());
      return watcher;
    }
    watchers.insert(watcher);
    for (const auto& [key, handoff] : handoffs) {
      if (IsPending(handoff.state())) watcher->Push(handoff, /*initial=*/true);
    }
    return watcher;
  }

  // REQUIRES mutex.
  void Tell(const v1::Handoff& handoff) {
    for (Watcher* watcher : watchers) watcher->Push(handoff, /*initial=*/false);
  }

  // REQUIRES mutex.
  void EndWatches(const grpc::Status& status) {
    for (Watcher* watcher : watchers) watcher->End(status);
    watchers.clear();
  }

  static bool IsPending(v1::Handoff::State state) {
    return state == v1::Handoff::STATE_CAPTURED || state == v1::Handoff::STATE_EMPTY ||
           state == v1::Handoff::STATE_APPLYING || state == v1::Handoff::STATE_APPLIED;
  }

  using Key = std::pair<std::string, v1::Handoff::Side>;

  void Record(const Key& key, const std::string& vm_id, v1::Handoff::State state,
              const v1::HandoffTicket& ticket) {
    v1::Handoff& handoff = handoffs[key];
    handoff.set_handoff_id(key.first);
    handoff.set_side(key.second);
    handoff.set_state(state);
    handoff.set_vm_id(vm_id);
    *handoff.mutable_ticket() = ticket;
    handoff.set_begun_at_ns(static_cast<int64_t>(kRealtimeNs));
    handoff.set_changed_at_ns(static_cast<int64_t>(kRealtimeNs));
    Tell(handoff);
  }

  // One stream; deletes itself when its client or the agent has ended it.
  class Watcher final : public grpc::ServerWriteReactor<v1::WatchHandoffsResponse> {
   public:
    Watcher(Service& service, std::string vm_id) : service_(service), vm_id_(std::move(vm_id)) {}

    void Push(const v1::Handoff& handoff, bool initial) {
      if (!vm_id_.empty() && handoff.vm_id() != vm_id_) return;
      const std::lock_guard<std::mutex> lock(mutex_);
      v1::WatchHandoffsResponse& message = queue_.emplace_back();
      *message.mutable_handoff() = handoff;
      message.set_initial(initial);
      if (queue_.size() == 1 && !finished_) StartWrite(&queue_.front());
    }

    void End(const grpc::Status& status) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!std::exchange(finished_, true)) Finish(status);
    }

    void OnWriteDone(bool ok) override {
      const std::lock_guard<std::mutex> lock(mutex_);
      queue_.pop_front();
      if (ok && !finished_ && !queue_.empty()) StartWrite(&queue_.front());
    }

    void OnCancel() override { End(grpc::Status::CANCELLED); }

    void OnDone() override {
      {
        const std::lock_guard<std::mutex> lock(service_.mutex);
        service_.watchers.erase(this);
      }
      delete this;
    }

   private:
    Service& service_;
    const std::string vm_id_;
    std::mutex mutex_;
    std::deque<v1::WatchHandoffsResponse> queue_;  // guarded by mutex_; the first is under way
    bool finished_ = false;                        // guarded by mutex_
  };

  mutable std::mutex mutex;
  std::set<Watcher*> watchers;
  std::map<Key, v1::Handoff> handoffs;
  std::map<std::string, v1::GetTscStateResponse> captures;
  std::map<std::string, v1::SetTscStateResponse> applies;
  std::map<std::string, FakeVm> vms;
  std::map<std::string, std::vector<FakeError>> failures;
  std::set<std::string> hangs;
  std::map<std::string, int> calls;
  std::optional<std::pair<int, int64_t>> misreport;
  bool damage_next_capture = false;
  uint32_t format_version = 1;
  bool lose_next_set_answer = false;
  bool endless_pages = false;
  uint32_t page_limit = 1000;
  int64_t elapsed_ns = 50'000'000;
  v1::SetTscStateRequest last_set;
  std::function<void(v1::SetTscStateResponse&)> edit_next_apply;
  v1::HostInfo host = Host();
  v1::CompareClocksResponse comparison = Agreement();
  std::string last_peer;

 private:
  // Ends a call only when its client has given it up.
  class HangingReactor final : public Reactor {
   public:
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };

  Reactor* Serve(Context* context, const std::string& method,
                 const std::function<grpc::Status()>& body) {
    const std::lock_guard<std::mutex> lock(mutex);
    ++calls[method];
    Reactor* reactor = hangs.erase(method) != 0 ? nullptr : context->DefaultReactor();
    std::vector<FakeError>& programmed = failures[method];
    grpc::Status status;
    if (programmed.empty()) {
      status = body();
    } else {
      status = ToGrpc(programmed.front());
      programmed.erase(programmed.begin());
    }
    if (reactor == nullptr) return new HangingReactor();
    reactor->Finish(status);
    return reactor;
  }

  static grpc::Status NotFound(const std::string& vm_id) {
    return Refuse(absl::StatusCode::kNotFound, v1::VM_NOT_FOUND,
                  "no VM " + vm_id + " is registered here", vm_id, "Look at ListVms.");
  }

  static grpc::Status Running(const std::string& vm_id) {
    return Refuse(absl::StatusCode::kFailedPrecondition, v1::VM_RUNNING,
                  "vCPU 0 of VM " + vm_id + " is executing", vm_id, "Pause the VM, then repeat.");
  }

  static grpc::Status UnknownHandoff(const std::string& id) {
    return Refuse(absl::StatusCode::kNotFound, v1::HANDOFF_NOT_FOUND, "no handoff " + id, "",
                  "Correct the id.");
  }

  static grpc::Status Decided(const v1::Handoff& handoff) {
    return Refuse(absl::StatusCode::kFailedPrecondition, v1::HANDOFF_DECIDED,
                  "handoff " + handoff.handoff_id() + " is decided", handoff.vm_id(),
                  "Go forward, or begin a new one.");
  }

  static grpc::Status Undecided(const v1::Handoff& handoff) {
    return Refuse(absl::StatusCode::kFailedPrecondition, v1::HANDOFF_UNDECIDED,
                  "handoff " + handoff.handoff_id() + " is not decided", handoff.vm_id(),
                  "Ask both agents.");
  }

  v1::HandoffTicket Begin(const v1::GetTscStateRequest& request) {
    v1::HandoffTicket ticket;
    ticket.set_handoff_id(request.handoff_id());
    ticket.set_epoch(++epoch_);
    ticket.set_source_agent_id(host.agent_id());
    ticket.set_destination_agent_id(request.destination_agent_id());
    ticket.set_destination_vm_id(request.destination_vm_id());
    ticket.set_release_digest(std::string(32, 'r'));
    ticket.set_abort_digest(std::string(32, 'a'));
    Record({request.handoff_id(), v1::Handoff::SIDE_SOURCE}, request.vm_id(),
           v1::Handoff::STATE_CAPTURED, ticket);
    Permit(request.vm_id(), false);
    return ticket;
  }

  void Permit(const std::string& vm_id, bool may_run) {
    const auto vm = vms.find(vm_id);
    if (vm != vms.end()) vm->second.may_run = may_run;
  }

  static v1::HandoffTicket TicketOf(const v1::TscState& state) {
    v1::TscStatePayload payload;
    return payload.ParseFromString(state.payload()) ? payload.handoff() : v1::HandoffTicket();
  }

  uint64_t epoch_ = 0;

  static void FillVm(const FakeVm& from, v1::Vm* to) {
    to->set_vm_id(from.vm_id);
    to->set_vcpu_count(static_cast<uint32_t>(from.vcpus.size()));
    to->set_vmm_pid(4711);
    to->set_port(v1::Vm::PORT_COOPERATIVE);
    to->set_run_state(from.running ? v1::Vm::RUN_STATE_RUNNING : v1::Vm::RUN_STATE_PAUSED);
    to->set_registered_at_ns(static_cast<int64_t>(kRealtimeNs));
    to->set_may_run(from.may_run);
    if (!from.may_run) to->set_may_not_run_reason("it awaits a handoff, and none has arrived");
  }

  // By what elapsed time was reckoned, and how wrong that may be.
  void Reckon(const v1::SetTscStateRequest& request, const std::string& source_boot_id,
              v1::SetTscStateResponse* response) const {
    v1::ErrorBound bound;
    if (source_boot_id == host.boot_id()) {
      response->set_elapsed_basis(v1::ELAPSED_BASIS_SAME_HOST_TSC);
    } else if (!request.source_agent().empty()) {
      response->set_elapsed_basis(v1::ELAPSED_BASIS_CLOCKS_AND_PROBE);
      *response->mutable_probe() = Probe();
      bound.set_probe_ns(400);
      bound.set_rate_ns(100);
      bound.set_total_ns(500);
    } else {
      response->set_elapsed_basis(v1::ELAPSED_BASIS_CLOCKS);
      v1::Warning* warning = response->add_warnings();
      warning->set_code(v1::Warning::CODE_CLOCKS_NOT_PROBED);
      warning->set_message("the two hosts' clocks were believed");
      bound.set_source_clock_ns(20'000);
      bound.set_destination_clock_ns(20'000);
      bound.set_rate_ns(300);
      bound.set_total_ns(40'300);
    }
    if (!request.allow_untrusted_clock()) *response->mutable_error_bound() = bound;
  }

  grpc::Status Apply(const v1::SetTscStateRequest& request, v1::SetTscStateResponse* response) {
    const auto it = vms.find(request.vm_id());
    if (it == vms.end()) return NotFound(request.vm_id());
    if (it->second.running) return Running(request.vm_id());
    const absl::StatusOr<StateView> state =
        DecodeState(format_version == 1 ? request.state() : InFormat1(request.state()));
    if (!state.ok()) {
      return Refuse(absl::StatusCode::kDataLoss, v1::STATE_CORRUPT,
                    "the state does not match its checksum", request.vm_id(),
                    "Get it again from the source.");
    }
    const bool same_ids = std::equal(
        state->vcpus.begin(), state->vcpus.end(), it->second.vcpus.begin(), it->second.vcpus.end(),
        [](const VcpuView& a, const VcpuView& b) { return a.id == b.id; });
    if (!same_ids) {
      return Refuse(absl::StatusCode::kFailedPrecondition, v1::VCPU_SET_MISMATCH,
                    "the state has other vCPUs", request.vm_id(),
                    "Create the destination VM with the same vCPUs.");
    }
    const bool elapsed = request.mode() == v1::APPLY_MODE_ELAPSED;
    const int64_t passed_ns = elapsed ? elapsed_ns : 0;
    const uint64_t ticks = static_cast<uint64_t>(passed_ns) * state->guest_tsc_khz / 1'000'000;
    for (const VcpuView& vcpu : state->vcpus) {
      v1::VcpuResult* result = response->add_vcpus();
      result->set_vcpu_id(vcpu.id);
      result->set_offset_before_ticks(0);
      result->set_guest_tsc_ticks(vcpu.guest_tsc_ticks + ticks);
      result->set_offset_after_ticks(result->guest_tsc_ticks() - kHostTscTicks);
      result->set_tsc_adjust_ticks(vcpu.tsc_adjust_ticks);
      result->set_tsc_deadline_ticks(vcpu.tsc_deadline_ticks);
    }
    response->set_elapsed_ns(passed_ns);
    response->set_elapsed_ticks(ticks);
    if (elapsed) Reckon(request, state->boot_id, response);
    *response->mutable_reference() = Reference(kRealtimeNs + static_cast<uint64_t>(passed_ns));
    response->mutable_kvmclock()->set_moved(!request.keep_kvmclock());
    response->mutable_kvmclock()->set_error_ns(-12);
    response->set_validated_only(request.validate_only());
    if (!request.validate_only()) {
      it->second.vcpus = state->vcpus;
      for (VcpuView& vcpu : it->second.vcpus) vcpu.guest_tsc_ticks += ticks;
    }
    return grpc::Status::OK;
  }
};

struct FakeAgent::Server {
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

FakeAgent::FakeAgent(int port)
    : service_(std::make_unique<Service>()), server_(std::make_unique<Server>()) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                           &server_->port);
  builder.RegisterService(service_.get());
  server_->server = builder.BuildAndStart();
}

FakeAgent::~FakeAgent() { Stop(); }

void FakeAgent::Stop() {
  if (server_->server == nullptr) return;
  server_->server->Shutdown(std::chrono::system_clock::now());
  server_->server->Wait();
  server_->server.reset();
}

std::string FakeAgent::target() const { return "127.0.0.1:" + std::to_string(server_->port); }

int FakeAgent::port() const { return server_->port; }

void FakeAgent::AddVm(FakeVm vm) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  const std::string vm_id = vm.vm_id;
  service_->vms[vm_id] = std::move(vm);
}

FakeVm FakeAgent::GetFakeVm(const std::string& vm_id) const {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  return service_->vms.at(vm_id);
}

v1::Handoff FakeAgent::GetFakeHandoff(const std::string& handoff_id, v1::Handoff::Side side) const {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  const auto found = service_->handoffs.find({handoff_id, side});
  return found == service_->handoffs.end() ? v1::Handoff() : found->second;
}

void FakeAgent::EditHandoff(const std::string& handoff_id, v1::Handoff::Side side,
                            const std::function<void(v1::Handoff&)>& edit) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  v1::Handoff& handoff = service_->handoffs.at({handoff_id, side});
  edit(handoff);
  service_->Tell(handoff);
}

void FakeAgent::PutHandoff(const v1::Handoff& handoff) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->handoffs[{handoff.handoff_id(), handoff.side()}] = handoff;
  service_->Tell(handoff);
}

void FakeAgent::EndWatches(const FakeError& error) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->EndWatches(ToGrpc(error));
}

void FakeAgent::FailNext(const std::string& method, const FakeError& error, int times) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  std::vector<FakeError>& failures = service_->failures[method];
  failures.insert(failures.end(), static_cast<size_t>(times), error);
}

void FakeAgent::HangNext(const std::string& method) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->hangs.insert(method);
}

void FakeAgent::LoseNextSetAnswer() {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->lose_next_set_answer = true;
}

void FakeAgent::DamageNextCapture() {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->damage_next_capture = true;
}

void FakeAgent::UseNewerFormat() {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->format_version = 2;
}

void FakeAgent::MisreportNextSet(int vcpu_index, int64_t ticks) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->misreport = {vcpu_index, ticks};
}

void FakeAgent::EditNextApply(std::function<void(v1::SetTscStateResponse&)> edit) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->edit_next_apply = std::move(edit);
}

void FakeAgent::EditHost(const std::function<void(v1::HostInfo&)>& edit) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  edit(service_->host);
}

void FakeAgent::SetComparison(v1::CompareClocksResponse comparison) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->comparison = std::move(comparison);
}

void FakeAgent::SetElapsedNs(int64_t elapsed_ns) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->elapsed_ns = elapsed_ns;
}

void FakeAgent::SetPageLimit(uint32_t limit) {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->page_limit = limit;
}

void FakeAgent::SetEndlessPages() {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  service_->endless_pages = true;
}

int FakeAgent::CallCount(const std::string& method) const {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  return service_->calls[method];
}

v1::SetTscStateRequest FakeAgent::LastSetRequest() const {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  return service_->last_set;
}

std::string FakeAgent::LastPeer() const {
  const std::lock_guard<std::mutex> lock(service_->mutex);
  return service_->last_peer;
}

}  // namespace tsc_handoff::client
