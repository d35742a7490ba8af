// Agent: the parts of tsc-agent put together and served. What the agent stands on (the host's
// facts, its clocks, the check of descriptors) is passed in, so that the same agent runs on a real
// host and on a simulated one.
//
// Threading: Start, Adopt and Stop may be called from any thread.
#ifndef TSC_HANDOFF_SERVER_AGENT_AGENT_H_
#define TSC_HANDOFF_SERVER_AGENT_AGENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/agent/host_vms.h"
#include "server/agent/serving_limits.h"
#include "server/agent/transport_options.h"
#include "server/auth/policy.h"
#include "server/base/unique_fd.h"
#include "server/clock/clock_quality.h"
#include "server/clock/host_clock.h"
#include "server/handoff/limits.h"
#include "server/host/host_facts.h"
#include "server/journal/journal.h"
#include "server/port/descriptor_check.h"
#include "server/service/reload.h"

namespace grpc {
class Channel;
}

namespace tsc_handoff::agent {

// A service of grpc.health.v1: NOT_SERVING while a handoff is undecided, or the journal cannot be
// used.
inline constexpr char kHandoffsHealth[] = "tschandoff.v1.TscAgent/handoffs";

struct Options {
  // "unix:/path" or "host:port"; port 0 chooses one.
  std::vector<std::string> listen = {"unix:/run/tsc-handoff/agent.sock"};
  TransportOptions transport;
  std::string vmm_socket = "/run/tsc-handoff/vmm.sock";  // empty: no socket for VMMs
  std::string metrics_address = "127.0.0.1:9464";        // empty: no metrics served
  // Metrics have no TLS: beyond loopback whoever reaches the port reads them.
  bool insecure_metrics = false;
  size_t metrics_per_vm = 0;  // VMs, in order of their ids, that have series of their own
  // HOST:PORT at which other hosts' agents reach this one, told by GetHostInfo; port 0 stands for
  // the port chosen. Empty: the first of `listen` that other hosts can reach, if any.
  std::string peer_address;
  handoff::Limits limits;
  // Nobody asking about a pending handoff for longer than this makes it undecided.
  int64_t undecided_after_ns = 30'000'000'000;
  // How long the journal keeps what ended, at least.
  int64_t keep_handoffs_ns = 30LL * 24 * 3600 * 1'000'000'000;
  ServingLimits serving;
  // Who may do what. Null: auth::BuiltInPolicy for this process.
  std::shared_ptr<const auth::Policy> policy = nullptr;
  std::string audit_log;          // a file; empty: the audit's lines go to the log
  service::Reloader reload = {};  // OPTIONAL. What the Reload RPC does
  // For calls that may wait for VMs; one caller's may have two thirds of them at once.
  size_t worker_threads = 24;
  // How often the TSCs of the host's VMs are looked at from outside.
  int64_t observe_every_ns = 5'000'000'000;
};

// What an agent stands on.
struct Platform {
  host::HostFacts facts;
  std::unique_ptr<clock::HostClock> host_clock;
  std::unique_ptr<clock::ClockView> clock;
  std::unique_ptr<port::DescriptorCheck> descriptor_check;
  std::unique_ptr<journal::Journal> journal;
  // OPTIONAL. Null: only VMs that register are known.
  std::unique_ptr<HostVms> host_vms;
};

class Agent {
 public:
  // Starts to serve. Errors (without a Reason): an address that is in use, not permitted or
  // malformed, each in a sentence that says what to do.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(const Options& options, Platform platform);

  // Stops serving when destroyed, if Stop has not.
  virtual ~Agent() = default;

  // Ports chosen, in the order of Options::listen; 0 for a Unix socket.
  virtual std::vector<int> ports() const = 0;
  // 0 when no metrics are served.
  virtual int metrics_port() const = 0;

  // Takes in a VMM of this process: the agent's end of a SOCK_SEQPACKET socket pair.
  virtual void Adopt(UniqueFd socket) = 0;

  // For what begins afterwards. Thread-safe.
  virtual void SetLimits(const handoff::Limits& limits) = 0;

  // Looks at once whether other certificates lie in the files. Returns whether they are in use now.
  // Thread-safe.
  virtual bool ReloadCertificates() = 0;

  // To the server within this process, past its sockets.
  virtual std::shared_ptr<grpc::Channel> InProcessChannel() = 0;

  // For calls that come in afterwards; streams end whose callers may not have them any more. Null:
  // the built-in one. Thread-safe.
  virtual void SetPolicy(std::shared_ptr<const auth::Policy> policy) = 0;
  virtual void SetMaxRequestRate(uint32_t per_second) = 0;
  // Opens the audit's file anew, as after its rotation; when it cannot, the old one stays and the
  // log says why. Thread-safe.
  virtual void ReopenAudit() = 0;

  // While draining, no handoff begins, and the agent is NOT_SERVING to health checks; what is open
  // goes on. Thread-safe.
  virtual void SetDraining(bool draining) = 0;
  // Handoffs that are neither committed nor aborted here.
  virtual size_t open_handoffs() const = 0;

  // Says NOT_SERVING, lets calls in progress end for at most `grace`, and stops. Idempotent.
  virtual void Stop(absl::Duration grace) = 0;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_AGENT_H_
