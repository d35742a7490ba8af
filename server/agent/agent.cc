#include "server/agent/agent.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_posix.h>
#include <malloc.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/agent/clock_watch.h"
#include "server/agent/flood_watch.h"
#include "server/agent/found_vms.h"
#include "server/agent/handoff_watch.h"
#include "server/agent/memory_watch.h"
#include "server/agent/transport.h"
#include "server/agent/vm_watch.h"
#include "server/auth/audit.h"
#include "server/auth/caller_acceptor.h"
#include "server/auth/rate_limiter.h"
#include "server/auth/vm_owners.h"
#include "server/base/error.h"
#include "server/base/log.h"
#include "server/base/version.h"
#include "server/handoff/handoff_controller.h"
#include "server/handoff/timekeeper.h"
#include "server/handoff/tsc_operations.h"
#include "server/metrics/metrics.h"
#include "server/peer/grpc_peer_prober.h"
#include "server/port/fault.h"
#include "server/port/vmm_listener.h"
#include "server/registry/vm_registry.h"
#include "server/service/call_guard.h"
#include "server/service/rpc_handlers.h"
#include "server/service/rpc_status.h"
#include "server/service/tsc_agent_service.h"
#include "server/tls/certificate_check.h"
#include "server/tls/loopback.h"

namespace tsc_handoff::agent {
namespace {

constexpr size_t kMaxQueuedOperations = 1024;  // half of them of one caller
constexpr int kLongestKeepaliveTimeoutMs = 20'000;
constexpr char kUnixPrefix[] = "unix:";

template <typename Clock>
int64_t NowNs() {
  const auto now = Clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// The kernel's. Fails for no request of this size, once the kernel has gathered entropy at boot.
std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  while (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) continue;
  return bytes;
}

std::shared_ptr<const auth::Policy> OrBuiltIn(std::shared_ptr<const auth::Policy> policy) {
  if (policy != nullptr) return policy;
  return std::make_shared<const auth::Policy>(auth::BuiltInPolicy(geteuid(), getegid()));
}

int ToMs(int64_t ns) { return static_cast<int>(ns / 1'000'000); }

// What gRPC holds callers to; how many connections there may be is the acceptor's matter.
void Limit(const ServingLimits& limits, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits.max_message_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                             static_cast<int>(limits.max_metadata_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(limits.max_streams_per_connection));
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             ToMs(limits.handshake_timeout_ns));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, ToMs(limits.max_idle_ns));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, ToMs(limits.keepalive_ns));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             std::min(ToMs(limits.keepalive_ns), kLongestKeepaliveTimeoutMs));
  // Else it would ask twice only, on a stream where nothing happens.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 1);  // FloodWatch counts by it
  grpc::ResourceQuota quota("callers");
  quota.Resize(limits.max_grpc_memory_mib * 1024 * 1024);
  builder.SetResourceQuota(quota);
}

// As the metrics' labels have them.
const char* NameOf(registry::PortKind port) {
  switch (port) {
    case registry::PortKind::kInProcess:
      return "in_process";
    case registry::PortKind::kCooperative:
      return "cooperative";
    case registry::PortKind::kAttached:
      return "attached";
    case registry::PortKind::kNone:
      return "none";
  }
  return "none";
}

const char* NameOf(registry::RunState state) {
  switch (state) {
    case registry::RunState::kPaused:
      return "paused";
    case registry::RunState::kRunning:
      return "running";
    case registry::RunState::kUnknown:
      return "unknown";
  }
  return "unknown";
}

class AgentImpl final : public Agent {
 public:
  AgentImpl(const Options& options, Platform platform)
      : options_(options),
        platform_(std::move(platform)),
        registry_({.max_vms = options.serving.max_vms, .max_vcpus = options.serving.max_vcpus}),
        metrics_({.grpc_service = tschandoff::v1::TscAgent::service_full_name(),
                  .methods = service::TscAgentService::MethodNames(),
                  .codes = service::CodeNames(),
                  .reasons = ReasonNames(),
                  .ioctls = port::IoctlNames(),
                  .reloads = tls::ProblemNames(),
                  .refused_for = auth::RefusedForNames(),
                  .version = kVersion,
                  .max_error_ns = options.limits.max_error_ns},
                 [this] { return Live(); }),
        transport_(options.transport, metrics_),
        prober_(*platform_.host_clock, platform_.facts.tsc.host_khz,
                [this](const std::string& address) { return transport_.PeerSecurityFor(address); }),
        timekeeper_(
            platform_.facts, *platform_.host_clock, *platform_.clock, prober_, options_.limits,
            [this](const std::string& peer, const time::ClockProbe& probe) {
              metrics_.Probed(
                  peer, {probe.wall_offset_ns, probe.wall_offset_error_ns, probe.round_trip_ns});
            }),
        audit_(options.audit_log, [this] { metrics_.AuditWriteFailed(); }),
        limiter_(options.serving.max_request_rate),
        acceptor_(
            {.max_connections = options.serving.max_connections,
             .max_connections_per_peer = options.serving.max_connections_per_peer,
             .preface_timeout = std::chrono::nanoseconds(options.serving.handshake_timeout_ns),
             .on_refused = [this](const auth::Identity& who, auth::RefusedFor what,
                                  const std::string& why) { Refused(who, what, why); },
             // glibc keeps what was freed, though the storm is over.
             .on_calm = [] { malloc_trim(0); }}),
        guard_({.grpc_service = tschandoff::v1::TscAgent::service_full_name(),
                .find_peer = [this](int number) { return acceptor_.Find(number); },
                .audit = audit_,
                .limiter = limiter_,
                .metrics = metrics_},
               OrBuiltIn(options.policy)),
        operations_(platform_.facts, registry_, timekeeper_, options_.limits),
        handoffs_(
            {.journal = *platform_.journal,
             .operations = operations_,
             .registry = registry_,
             .realtime_ns = NowNs<std::chrono::system_clock>,
             .monotonic_ns = NowNs<std::chrono::steady_clock>,
             .random_bytes = RandomBytes,
             .undecided_after_ns = options.undecided_after_ns,
             .max_handoffs = options.serving.max_handoffs,
             .on_change = [this](const journal::HandoffRecord& record,
                                 handoff::Event event) { Changed(record, event); },
             .on_violation = [this](const std::string& vm_id,
                                    const port::Permit& permit) { Violated(vm_id, permit); }}),
        listener_({.socket_path = options.vmm_socket,
                   .max_handshakes = 64,
                   .on_event =
                       [](const std::string& vm_id, int32_t pid, const std::string& what) {
                         Log(LogLevel::kInfo, absl::StrCat("VMM: ", what),
                             {{"vm", vm_id}, {"vmm_pid", pid}});
                       },
                   .may_register =
                       [this](const PeerCredentials& peer, const std::string& vm_id) {
                         return MayRegister(auth::FromCredentials(peer), vm_id);
                       },
                   .on_registered =
                       [this](const std::shared_ptr<registry::RegisteredVm>& vm) {
                         if (vm->identity().port == registry::PortKind::kCooperative)
                           owners_.Registered(vm->identity().vm_id, vm->identity().vmm_uid);
                         if (vm_watch_.has_value()) vm_watch_->Registered(vm->identity());
                         handoffs_.VmRegistered(vm);
                       }},
                  registry_, *platform_.descriptor_check),
        handlers_({platform_.facts, registry_, timekeeper_, operations_, handoffs_,
                   *platform_.journal, &metrics_, [this] { return PeerAddress(); },
                   [this](bool draining) { SetDraining(draining); }, options_.reload,
                   [this](const registry::VmIdentity& vm) { return ObservationOf(vm); }}),
        service_({handlers_,
                  handoffs_,
                  metrics_,
                  pool_,
                  guard_,
                  {.max_streams = options.serving.max_watchers,
                   .max_streams_per_caller = options.serving.max_watchers_per_caller,
                   .max_queued = options.serving.max_queued_changes}}) {}

  ~AgentImpl() override { Stop(absl::Seconds(1)); }

  absl::Status Serve() {
    if (absl::Status status = audit_.Open(); !status.ok()) return status;
    platform_.journal->set_on_commit(
        [this](int64_t ns) { metrics_.JournalCommitted(absl::Nanoseconds(ns)); });
    // Without its journal the agent serves all the same, so that it can be asked what is wrong.
    if (const std::string reason = platform_.journal->unavailable_reason(); !reason.empty()) {
      Log(LogLevel::kError, "no handoffs, and no permits to run", {{"why", reason}});
    } else if (absl::Status status = handoffs_.Start(); !status.ok()) {
      return status;
    }
    if (absl::Status status = transport_.Start(); !status.ok()) return status;
    if (platform_.host_vms != nullptr) WatchVms();
    if (absl::Status status = listener_.Start(); !status.ok()) return status;
    if (!options_.metrics_address.empty()) {
      if (!options_.insecure_metrics && !tls::IsLoopback(options_.metrics_address))
        return MetricsBeyondLoopback(options_.metrics_address);
      auto port = metrics_.Expose(options_.metrics_address);
      if (!port.ok()) return port.status();
      metrics_port_ = *port;
    }
    return StartGrpc();
  }

  std::vector<int> ports() const override { return ports_; }
  int metrics_port() const override { return metrics_port_; }
  void Adopt(UniqueFd socket) override { listener_.Adopt(std::move(socket)); }

  void SetLimits(const handoff::Limits& limits) override {
    timekeeper_.set_limits(limits);
    operations_.set_limits(limits);
  }

  bool ReloadCertificates() override { return transport_.Reload(); }

  std::shared_ptr<grpc::Channel> InProcessChannel() override {
    return server_->InProcessChannel(grpc::ChannelArguments());
  }

  void SetPolicy(std::shared_ptr<const auth::Policy> policy) override {
    guard_.SetPolicy(OrBuiltIn(std::move(policy)));
    service_.PolicyChanged();
  }

  void SetMaxRequestRate(uint32_t per_second) override { limiter_.set_per_second(per_second); }

  void ReopenAudit() override {
    if (const absl::Status status = audit_.Open(); !status.ok())
      Log(LogLevel::kError, "the audit's file was not opened anew", {{"why", status.message()}});
  }

  void SetDraining(bool draining) override {
    if (handoffs_.draining() != draining) {
      Log(LogLevel::kInfo, draining ? "draining: no handoff begins" : "not draining any more",
          {{"open_handoffs", handoffs_.OpenCount()}});
    }
    handoffs_.set_draining(draining);
    TellHealth();
  }

  size_t open_handoffs() const override { return handoffs_.OpenCount(); }

  void Stop(absl::Duration grace) override {
    clock_watch_.reset();
    flood_watch_.reset();
    handoff_watch_.reset();
    service_.Stop();
    acceptor_.Stop();
    if (server_ != nullptr) {
      server_->GetHealthCheckService()->SetServingStatus(false);
      server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
      server_.reset();
    }
    listener_.Stop();
    vm_watch_.reset();
  }

 private:
  // The VMs that are there already are known before anybody asks.
  void WatchVms() {
    found_vms_.emplace(FoundVms::Parts{
        .registry = registry_,
        .boot_id = platform_.facts.boot_id,
        .attach = [this](
                      const discovery::FoundVm& vm,
                      const std::string& vm_id) { return platform_.host_vms->Attach(vm, vm_id); },
        .realtime_ns = NowNs<std::chrono::system_clock>,
        .on_event =
            [](const registry::VmIdentity& identity, const std::string& what) {
              Log(LogLevel::kInfo, absl::StrCat("VM: ", what),
                  {{"vm", identity.vm_id}, {"vmm_pid", identity.vmm_pid}});
            }});
    vm_watch_.emplace(
        VmWatch::Parts{.host = *platform_.host_vms,
                       .registry = registry_,
                       .found = *found_vms_,
                       .observations = observations_,
                       .realtime_ns = NowNs<std::chrono::system_clock>,
                       .on_phase_event = [this](const PhaseEvent& event) { PhaseChanged(event); },
                       .observe_every = std::chrono::nanoseconds(options_.observe_every_ns)});
    vm_watch_->Start();
  }

  void PhaseChanged(const PhaseEvent& event) {
    Log(LogLevel::kWarn, "a VM's phase changed on its own: the guest or its VMM wrote a TSC",
        {{"vm", event.vm_id},
         {"vmm_pid", event.change.vm.pid},
         {"spread_before_ticks", event.change.before_ticks},
         {"spread_after_ticks", event.change.after_ticks}});
    metrics_.PhaseChanged();
  }

  std::optional<observe::Observation> ObservationOf(const registry::VmIdentity& identity) const {
    return observations_.Of(identity.vmm_pid == 0 ? getpid() : identity.vmm_pid,
                            identity.vmm_vm_fd);
  }

  static absl::Status MetricsBeyondLoopback(const std::string& address) {
    return absl::PermissionDeniedError(absl::StrCat(
        address,
        " is reachable from other hosts, and metrics have no authentication: serve them on "
        "loopback, or let whoever reaches the port read them with --insecure-metrics"));
  }

  absl::Status StartGrpc() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    ports_.assign(options_.listen.size(), 0);
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      if (absl::Status status = Listen(i, builder); !status.ok()) return status;
    }
    Limit(options_.serving, builder);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) {
      return absl::FailedPreconditionError(
          "gRPC does not start; are there enough descriptors (LimitNOFILE)?");
    }
    started_ = true;
    if (absl::Status status = acceptor_.Start(); !status.ok()) return status;
    if (acceptor_.max_in_all() < options_.serving.max_connections) {
      Log(LogLevel::kWarn, "fewer connections than --max-connections: an eighth of LimitNOFILE",
          {{"connections", acceptor_.max_in_all()}});
    }
    flood_watch_.emplace(
        options_.serving.max_streams_per_connection,
        [this](const std::string& peer, const std::string& why) { acceptor_.Close(peer, why); });
    // The agent as a whole serves on; the service of handoffs does while the clock is trusted.
    clock_watch_.emplace(timekeeper_, [this](bool trusted) {
      clock_trusted_ = trusted;
      TellHealth();
    });
    handoff_watch_.emplace(handoffs_, options_.keep_handoffs_ns, [this](size_t undecided) {
      const bool usable = platform_.journal->unavailable_reason().empty();
      undecided_ = undecided;
      server_->GetHealthCheckService()->SetServingStatus(kHandoffsHealth, undecided == 0 && usable);
    });
    return absl::OkStatus();
  }

  // The acceptor accepts for gRPC; see its header.
  absl::Status Listen(size_t index, grpc::ServerBuilder& builder) {
    const std::string& address = options_.listen[index];
    if (absl::StartsWith(address, kUnixPrefix)) {
      return acceptor_.ListenUnix(
          std::string(absl::StripPrefix(address, kUnixPrefix)),
          [this](int fd) { grpc::AddInsecureChannelFromFd(server_.get(), fd); });
    }
    auto credentials = transport_.ServerCredentialsFor(address);
    if (!credentials.ok()) return credentials.status();
    using External = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
    const std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> taker =
        builder.experimental().AddExternalConnectionAcceptor(External::FROM_FD, *credentials);
    auto port = acceptor_.ListenTcp(address, !options_.transport.tls.empty(), [taker](int fd) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.fd = fd;
      taker->HandleNewConnection(&connection);
    });
    if (!port.ok()) return port.status();
    ports_[index] = *port;
    return absl::OkStatus();
  }

  // Whose VMs stay whose; see auth::VmOwners.
  absl::Status MayRegister(const auth::Identity& who, const std::string& vm_id) {
    const auto vm = registry_.Find(vm_id);
    const bool attached = vm.ok() && (*vm)->identity().port == registry::PortKind::kAttached;
    const bool registered = vm.ok() && !registry::WasFound((*vm)->identity().port);
    const std::optional<int64_t> in_handoff = handoffs_.OwnerInHandoff(vm_id);
    auth::VmInUse in_use;
    in_use.is = registered || attached || in_handoff.has_value();
    if (attached) in_use.uid = (*vm)->identity().vmm_uid;
    if (in_handoff.has_value() && *in_handoff >= 0) in_use.uid = static_cast<uint32_t>(*in_handoff);
    const absl::Status status = owners_.MayRegister(*guard_.policy(), who, vm_id, in_use);
    if (status.ok()) return status;
    metrics_.RegistrationDenied();
    auth::AuditEvent event;
    event.who = who;
    event.method = "(registration of a VM)";
    event.vm_id = vm_id;
    event.reason = std::string(ReasonName(Reason::kNotAuthorized));
    event.why = std::string(status.message());
    audit_.Write(event, /*refused_at_the_door=*/true);
    return status;
  }

  void Refused(const auth::Identity& who, auth::RefusedFor what, const std::string& why) {
    metrics_.ConnectionRefused(NameOf(what));
    LogLimited(LogLevel::kWarn, "a connection was closed",
               {{"peer", absl::StrCat(NameOf(who), " (", OriginOf(who), ")")},
                {"for", NameOf(what)},
                {"why", why}});
  }

  void TellHealth() {
    const std::lock_guard<std::mutex> lock(health_mutex_);
    if (server_ == nullptr) return;
    server_->GetHealthCheckService()->SetServingStatus(
        tschandoff::v1::TscAgent::service_full_name(), clock_trusted_ && !handoffs_.draining());
  }

  // Where other hosts reach this agent; empty while that is not known.
  std::string PeerAddress() const {
    const std::string& given = options_.peer_address;
    if (!started_ || (!given.empty() && !absl::EndsWith(given, ":0"))) return given;
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      const std::string& address = given.empty() ? options_.listen[i] : given;
      if (absl::StartsWith(options_.listen[i], kUnixPrefix)) continue;
      if (given.empty() && !MeansTheSameElsewhere(address)) continue;
      return absl::StrCat(address.substr(0, address.rfind(':')), ":", ports_[i]);
    }
    return "";
  }

  static bool MeansTheSameElsewhere(const std::string& address) {
    return !tls::IsLoopback(address) && !absl::StartsWith(address, "0.0.0.0:") &&
           !absl::StartsWith(address, "[::]:");
  }

  void Changed(const journal::HandoffRecord& record, handoff::Event event) {
    Log(LogLevel::kInfo, "handoff",
        {{"handoff", record.ticket.handoff_id},
         {"vm", record.vm_id},
         {"epoch", record.ticket.epoch},
         {"side", handoff::NameOf(record.side)},
         {"state", handoff::NameOf(record.state)},
         {"step", handoff::NameOf(event)}});
    const bool settled =
        record.state == journal::State::kAborted && event == handoff::Event::kUndone;
    if (!settled)  // that it was aborted has been counted
      metrics_.HandoffChanged(handoff::NameOf(record.side), handoff::NameOf(record.state));
    service_.Changed(record);
  }

  void Violated(const std::string& vm_id, const port::Permit& permit) {
    Log(LogLevel::kError, "a VM runs without a permit: stop it, or two hosts may run it",
        {{"vm", vm_id}, {"epoch", permit.epoch}, {"why", permit.reason}});
    metrics_.PermitViolated();
  }

  metrics::LiveValues Live() {
    metrics::LiveValues values;
    for (const auto& vm : registry_.List("", registry_.size())) {
      const registry::VmIdentity& identity = vm->identity();
      const std::string state = NameOf(vm->run_state());
      ++values.vms[{NameOf(identity.port), state}];
      if (values.shown_vms.size() >= options_.metrics_per_vm) continue;
      metrics::VmValues shown{identity.vm_id, state, identity.vcpu_ids.size()};
      if (const auto observation = ObservationOf(identity))
        shown.phase_spread_ticks = observation->phase_spread_ticks;
      values.shown_vms.push_back(std::move(shown));
    }
    const observe::Totals observed = observations_.Sum();
    values.observed = {observed.vms, observed.out_of_phase, observed.most_spread_ticks};
    handoff::ListQuery pending;
    pending.limit = SIZE_MAX;
    pending.pending_only = true;
    const int64_t now_ns = NowNs<std::chrono::system_clock>();
    for (const handoff::HandoffView& view : handoffs_.List(pending)) {
      ++values.handoffs_pending[handoff::NameOf(view.record->state)];
      values.oldest_pending_ns =
          std::max(values.oldest_pending_ns, now_ns - view.record->begun_at_ns);
    }
    values.handoffs_undecided = undecided_;
    values.certificate = transport_.certificate();
    values.journal_usable = platform_.journal->unavailable_reason().empty();
    const clock::ClockQuality quality = timekeeper_.Now().quality;
    values.clock_trusted = quality.trusted;
    values.clock_status = clock::StatusName(quality.status);
    values.clock_error_bound_ns = quality.error_bound_ns;
    values.clock_age_ns = quality.age_ns;
    values.clock_frequency_correction = quality.frequency_correction;
    return values;
  }

  const Options options_;
  const Platform platform_;
  registry::VmRegistry registry_;
  metrics::Metrics metrics_;
  Transport transport_;  // outlives the server, whose handshakes ask it
  peer::GrpcPeerProber prober_;
  handoff::Timekeeper timekeeper_;
  auth::Audit audit_;
  auth::RateLimiter limiter_;
  auth::VmOwners owners_;
  auth::CallerAcceptor acceptor_;
  service::CallGuard guard_;
  handoff::TscOperations operations_;
  handoff::HandoffController handoffs_;
  observe::Observations observations_;
  std::optional<FoundVms> found_vms_;
  std::optional<VmWatch> vm_watch_;
  port::VmmListener listener_;
  service::RpcHandlers handlers_;
  // What it runs uses all above, also when the call is over and the server has ended.
  service::WorkerPool pool_{{.threads = options_.worker_threads,
                             .threads_of_one = std::max<size_t>(options_.worker_threads * 2 / 3, 1),
                             .queued = kMaxQueuedOperations,
                             .queued_of_one = kMaxQueuedOperations / 2}};
  service::TscAgentService service_;
  std::vector<int> ports_;
  int metrics_port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<bool> started_{false};  // ports_ do not change any more
  std::atomic<size_t> undecided_{0};
  std::atomic<bool> clock_trusted_{false};
  std::mutex
      health_mutex_;  // held while the health is told, so that the last word is the right one
  std::optional<FloodWatch> flood_watch_;
  std::optional<ClockWatch> clock_watch_;
  std::optional<HandoffWatch> handoff_watch_;
  const MemoryWatch memory_watch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(const Options& options, Platform platform) {
  auto agent = std::make_unique<AgentImpl>(options, std::move(platform));
  if (absl::Status status = agent->Serve(); !status.ok()) return status;
  return agent;
}

}  // namespace tsc_handoff::agent
