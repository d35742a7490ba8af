#include "server/agent/agent.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/agent/clock_watch.h"
#include "server/agent/handoff_watch.h"
#include "server/base/log.h"
#include "server/base/socket_lock.h"
#include "server/base/version.h"
#include "server/handoff/handoff_controller.h"
#include "server/handoff/timekeeper.h"
#include "server/handoff/tsc_operations.h"
#include "server/metrics/metrics.h"
#include "server/peer/grpc_peer_prober.h"
#include "server/port/vmm_listener.h"
#include "server/registry/vm_registry.h"
#include "server/service/rpc_handlers.h"
#include "server/service/tsc_agent_service.h"

namespace tsc_handoff::agent {
namespace {

// A state is at most 256 KiB (state::kMaxPayloadBytes); a request is little more.
constexpr int kMaxMessageBytes = 512 * 1024;
constexpr int kMaxMetadataBytes = 16 * 1024;
constexpr int kMaxStreamsPerConnection = 128;
constexpr size_t kMaxQueuedOperations = 1024;
constexpr char kUnixPrefix[] = "unix:";
// NOT_SERVING while a handoff is undecided, or the journal cannot be used.
constexpr char kHandoffsHealth[] = "tschandoff.v1.TscAgent/handoffs";

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

class AgentImpl final : public Agent {
 public:
  AgentImpl(const Options& options, Platform platform)
      : options_(options),
        platform_(std::move(platform)),
        registry_(options.max_vms),
        metrics_(tschandoff::v1::TscAgent::service_full_name(),
                 service::TscAgentService::MethodNames(), kVersion, [this] { return Live(); }),
        prober_(*platform_.host_clock, platform_.facts.tsc.host_khz),
        timekeeper_(
            platform_.facts, *platform_.host_clock, *platform_.clock, prober_, options_.limits,
            [this](const std::string& peer, const time::ClockProbe& probe) {
              metrics_.Probed(
                  peer, {probe.wall_offset_ns, probe.wall_offset_error_ns, probe.round_trip_ns});
            }),
        operations_(platform_.facts, registry_, timekeeper_, options_.limits),
        handoffs_(
            {.journal = *platform_.journal,
             .operations = operations_,
             .registry = registry_,
             .realtime_ns = NowNs<std::chrono::system_clock>,
             .monotonic_ns = NowNs<std::chrono::steady_clock>,
             .random_bytes = RandomBytes,
             .undecided_after_ns = options.undecided_after_ns,
             .on_change = [this](const journal::HandoffRecord& record,
                                 handoff::Event event) { Changed(record, event); },
             .on_violation = [this](const std::string& vm_id,
                                    const port::Permit& permit) { Violated(vm_id, permit); }}),
        listener_({.socket_path = options.vmm_socket,
                   .max_handshakes = 64,
                   .on_event =
                       [](const std::string& vm_id, int32_t pid, const std::string& what) {
                         spdlog::info("vm={} vmm_pid={} {}", vm_id, pid, what);
                       },
                   .on_registered =
                       [this](const std::shared_ptr<registry::RegisteredVm>& vm) {
                         handoffs_.VmRegistered(vm);
                       }},
                  registry_, *platform_.descriptor_check),
        handlers_({platform_.facts, registry_, timekeeper_, operations_, handoffs_,
                   *platform_.journal, &metrics_, [this] { return PeerAddress(); },
                   [this](bool draining) { SetDraining(draining); }, options_.reload}),
        service_({handlers_, handoffs_, metrics_, pool_}) {}

  ~AgentImpl() override { Stop(absl::Seconds(1)); }

  absl::Status Serve() {
    platform_.journal->set_on_commit(
        [this](int64_t ns) { metrics_.JournalCommitted(absl::Nanoseconds(ns)); });
    // Without its journal the agent serves all the same, so that it can be asked what is wrong.
    if (const std::string reason = platform_.journal->unavailable_reason(); !reason.empty()) {
      spdlog::error("no handoffs, and no permits to run: {}", reason);
    } else if (absl::Status status = handoffs_.Start(); !status.ok()) {
      return status;
    }
    if (absl::Status status = listener_.Start(); !status.ok()) return status;
    if (!options_.metrics_address.empty()) {
      if (!options_.insecure_network && !IsLoopback(options_.metrics_address))
        return NotLoopback(options_.metrics_address);
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
    handoff_watch_.reset();
    service_.Stop();
    if (server_ != nullptr) {
      server_->GetHealthCheckService()->SetServingStatus(false);
      server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
      server_.reset();
    }
    listener_.Stop();
  }

 private:
  static absl::Status NotLoopback(const std::string& address) {
    return absl::PermissionDeniedError(absl::StrCat(
        address,
        " is reachable from other hosts, without authentication: listen on loopback or a Unix "
        "socket, or accept the risk with --insecure-network"));
  }

  absl::Status StartGrpc() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    ports_.assign(options_.listen.size(), 0);
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      const std::string& address = options_.listen[i];
      if (absl::StartsWith(address, kUnixPrefix)) {
        // gRPC would take a served socket away from another agent without a word.
        auto lock = SocketLock::Take(std::string(absl::StripPrefix(address, kUnixPrefix)));
        if (!lock.ok()) return lock.status();
        locks_.push_back(*std::move(lock));
      } else if (!options_.insecure_network && !IsLoopback(address)) {
        return NotLoopback(address);
      }
      builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &ports_[i]);
    }
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT,
                               0);  // a second agent on the port is an error
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.RegisterService(&service_);
    const mode_t mask = umask(0117);  // sockets: rw for user and group, from the first instant
    server_ = builder.BuildAndStart();
    umask(mask);
    if (server_ == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat("cannot listen at ",
                                                        absl::StrJoin(options_.listen, ", "),
                                                        "; is another agent running?"));
    }
    started_ = true;
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
    return !IsLoopback(address) && !absl::StartsWith(address, "0.0.0.0:") &&
           !absl::StartsWith(address, "[::]:");
  }

  void Changed(const journal::HandoffRecord& record, handoff::Event event) {
    spdlog::info("handoff={} vm={} epoch={} side={} state={} event={}", record.ticket.handoff_id,
                 record.vm_id, record.ticket.epoch, handoff::NameOf(record.side),
                 handoff::NameOf(record.state), handoff::NameOf(event));
    const bool settled =
        record.state == journal::State::kAborted && event == handoff::Event::kUndone;
    if (!settled)  // that it was aborted has been counted
      metrics_.HandoffChanged(handoff::NameOf(record.side), handoff::NameOf(record.state));
    service_.Changed(record);
  }

  void Violated(const std::string& vm_id, const port::Permit& permit) {
    spdlog::error("vm={} epoch={} RUNS WITHOUT A PERMIT: {}. Stop it, or two hosts may run it",
                  vm_id, permit.epoch, permit.reason);
    metrics_.PermitViolated();
  }

  metrics::LiveValues Live() {
    metrics::LiveValues values;
    for (const auto& vm : registry_.List("", registry_.size())) {
      ++(vm->identity().port == registry::PortKind::kInProcess ? values.vms_in_process
                                                               : values.vms_cooperative);
    }
    handoff::ListQuery pending;
    pending.limit = SIZE_MAX;
    pending.pending_only = true;
    for (const handoff::HandoffView& view : handoffs_.List(pending))
      ++values.handoffs_pending[handoff::NameOf(view.record->state)];
    values.handoffs_undecided = undecided_;
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
  peer::GrpcPeerProber prober_;
  handoff::Timekeeper timekeeper_;
  handoff::TscOperations operations_;
  handoff::HandoffController handoffs_;
  port::VmmListener listener_;
  service::RpcHandlers handlers_;
  // What it runs uses all above, also when the call is over and the server has ended.
  service::WorkerPool pool_{options_.worker_threads, kMaxQueuedOperations};
  service::TscAgentService service_;
  std::list<SocketLock> locks_;
  std::vector<int> ports_;
  int metrics_port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<bool> started_{false};  // ports_ do not change any more
  std::atomic<size_t> undecided_{0};
  std::atomic<bool> clock_trusted_{false};
  std::mutex
      health_mutex_;  // held while the health is told, so that the last word is the right one
  std::optional<ClockWatch> clock_watch_;
  std::optional<HandoffWatch> handoff_watch_;
};

}  // namespace

bool IsLoopback(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" ||
         (absl::StartsWith(host, "127.") &&
          host.find_first_not_of("0123456789.") == std::string::npos);
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(const Options& options, Platform platform) {
  auto agent = std::make_unique<AgentImpl>(options, std::move(platform));
  if (absl::Status status = agent->Serve(); !status.ok()) return status;
  return agent;
}

}  // namespace tsc_handoff::agent
