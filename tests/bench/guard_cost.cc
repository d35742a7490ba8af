#include "tests/bench/guard_cost.h"

#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>

#include "server/auth/audit.h"
#include "server/auth/peer_table.h"
#include "server/auth/policy.h"
#include "server/auth/rate_limiter.h"
#include "server/service/call_guard.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kMethod[] = "SetTscState";
constexpr char kVmId[] = "web-0123456789";
constexpr uint32_t kUid = 61000;
constexpr int kBindings = 20;
// One is too short to be timed.
constexpr int kTimes = 20;

std::shared_ptr<const auth::Policy> MakePolicy() {
  auth::Policy policy;
  for (uint32_t i = 1; i < kBindings; ++i)
    policy.bindings.push_back({.role = auth::Role::kOrchestrator,
                               .users = {kUid + i},
                               .certificates = {"spiffe://example.org/orchestrator/*"},
                               .vms = {.patterns = {"db-*"}}});
  policy.bindings.push_back(
      {.role = auth::Role::kOrchestrator, .users = {kUid}, .vms = {.patterns = {"web-*"}}});
  return std::make_shared<const auth::Policy>(std::move(policy));
}

auth::Identity Caller() {
  auth::Identity caller;
  caller.kind = auth::Identity::Kind::kUnix;
  caller.uid = kUid;
  caller.groups = {1, 2, 3};
  caller.pid = getpid();
  return caller;
}

template <typename Work>
void Time(Samples& samples, const Work& work) {
  const auto start = Clock::now();
  for (int i = 0; i < kTimes; ++i) work();
  samples.Add(std::chrono::nanoseconds(Clock::now() - start).count() / kTimes);
}

}  // namespace

absl::StatusOr<GuardCost> MeasureGuardCost(int samples) {
  char path[] = "/tmp/tsc-bench-audit.XXXXXX";
  close(mkstemp(path));
  auth::Audit audit(path, nullptr);
  if (absl::Status status = audit.Open(); !status.ok()) return status;
  auth::RateLimiter limiter(std::numeric_limits<uint32_t>::max());
  const std::string service = tschandoff::v1::TscAgent::service_full_name();
  metrics::MetricsOptions metrics_options;
  metrics_options.grpc_service = service;
  metrics::Metrics metrics(metrics_options, [] { return metrics::LiveValues(); });
  auth::PeerTable peers;
  auto connection = peers.Admit(STDIN_FILENO, Caller(), Clock::now());
  if (!connection.ok()) return connection.status();
  const service::CallGuard guard({.grpc_service = service,
                                  .find_peer = nullptr,
                                  .audit = audit,
                                  .limiter = limiter,
                                  .metrics = metrics},
                                 MakePolicy());
  service::CallNote note;
  note.vm_id = kVmId;
  note.handoff_id = "0b2e7b4e-8a0f-4c43-9d4a-3f0d7f6a4c11";
  note.epoch = 7;
  note.state_sha256 = std::string(64, 'a');
  GuardCost cost;
  service::Admission admission;
  for (int i = 0; i < samples && admission.status.ok(); ++i) {
    Time(cost.admission_ns,
         [&] { admission = guard.Admit(peers.Find(connection->get()), kMethod, kVmId); });
    Time(cost.audit_line_ns,
         [&] { guard.Ended(admission, kMethod, note, absl::OkStatus(), absl::Microseconds(100)); });
  }
  std::filesystem::remove(path);
  if (!admission.status.ok()) return admission.status;
  return cost;
}

}  // namespace tsc_handoff::bench
