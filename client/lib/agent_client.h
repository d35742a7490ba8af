// AgentClient: one tsc-agent, as absl::StatusOr methods with deadlines. See tsc_agent.proto for
// what each call does and which errors it has, and rpc_error.h for how to read an error.
//
// Threading: thread-safe; calls may run concurrently.
#ifndef TSC_HANDOFF_CLIENT_LIB_AGENT_CLIENT_H_
#define TSC_HANDOFF_CLIENT_LIB_AGENT_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/lib/agent_call.h"
#include "client/lib/retry.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace grpc {
class ChannelCredentials;
}  // namespace grpc

namespace tsc_handoff::client {

// Where an agent listens when nothing else was configured.
inline constexpr absl::string_view kDefaultAgent = "unix:/run/tsc-handoff/agent.sock";

struct AgentClientOptions {
  // For one call with all its retries (for ListVms: for each page). Above zero.
  absl::Duration timeout = absl::Seconds(5);
  // For calls that read, when the agent was not reached.
  RetryPolicy retry = {};
  // Also repeat a SetTscState in ELAPSED mode whose answer was lost: tsc_agent.proto promises that
  // a second apply gives the guest the same TSCs up to the stated error. EXACT mode is never
  // repeated.
  bool retry_elapsed_set = false;
  // Null means plaintext, which is for Unix sockets and the loopback interface. Else those of
  // server/tls/channel_credentials.h, or any other of gRPC's.
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;
  // With TLS: the DNS name that the agent's certificate must bear; empty: the host of the target.
  std::string tls_server_name = {};
  TimeSource time = SystemTime();
};

// One stream of WatchHandoffs. It must end before its AgentClient.
//
// Threading: Next and Finish from one thread, Cancel from any.
class HandoffStream {
 public:
  virtual ~HandoffStream() = default;
  // Waits for what comes next; false when the stream has ended, and why says Finish.
  virtual bool Next(tschandoff::v1::WatchHandoffsResponse* change) = 0;
  // Once, after Next returned false.
  virtual absl::Status Finish() = 0;
  // Next returns false soon.
  virtual void Cancel() = 0;
};

class AgentClient {
 public:
  // Prepares a client of the agent at `target`: "unix:/path", "HOST:PORT" or any other gRPC address
  // with a scheme. Does not wait for a connection; the first call reports an agent that is not
  // there. INVALID_ARGUMENT when the target or an option cannot be right.
  static absl::StatusOr<std::unique_ptr<AgentClient>> Connect(absl::string_view target,
                                                              AgentClientOptions options = {});
  ~AgentClient();
  AgentClient(const AgentClient&) = delete;
  AgentClient& operator=(const AgentClient&) = delete;

  // As given to Connect.
  const std::string& target() const { return target_; }

  absl::StatusOr<tschandoff::v1::HostInfo> GetHostInfo();

  // All VMs, in the agent's order, fetched page by page. A VM that comes or goes meanwhile may be
  // missing or gone.
  absl::StatusOr<std::vector<tschandoff::v1::Vm>> ListVms();

  absl::StatusOr<tschandoff::v1::Vm> GetVm(absl::string_view vm_id);

  // The answer always has a state.
  absl::StatusOr<tschandoff::v1::GetTscStateResponse> GetTscState(absl::string_view vm_id);

  // Has this agent probe the one at `peer` (HOST:PORT, as this agent reaches it) and compare what
  // is measured with what both claim. The answer always has the probe and both claims; clocks that
  // disagree are an answer, not an error.
  absl::StatusOr<tschandoff::v1::CompareClocksResponse> CompareClocks(absl::string_view peer);

  // Sends at most once (but see retry_elapsed_set). An error with IsOutcomeUnknown(): the VM may
  // have changed. Any other error: nothing changed, but for reason ROLLBACK_FAILED.
  absl::StatusOr<tschandoff::v1::SetTscStateResponse> SetTscState(
      const tschandoff::v1::SetTscStateRequest& request);

  // Which handoffs ListHandoffs gives.
  struct HandoffFilter {
    std::string vm_id;  // empty: of all VMs
    bool pending_only = false;
    bool undecided_only = false;
  };
  // Those begun last first, fetched page by page.
  absl::StatusOr<std::vector<tschandoff::v1::Handoff>> ListHandoffs(const HandoffFilter& filter);

  absl::StatusOr<tschandoff::v1::GetHandoffResponse> GetHandoff(absl::string_view handoff_id);

  // An operator's word on where a VM is. To say it twice is to say it once, so both are repeated
  // like reading calls. See tsc_agent.proto for the danger in the first.
  absl::StatusOr<tschandoff::v1::ReclaimVmResponse> ReclaimVm(
      const tschandoff::v1::ReclaimVmRequest& request);
  absl::StatusOr<tschandoff::v1::DisownVmResponse> DisownVm(absl::string_view vm_id,
                                                            absl::string_view handoff_id);

  // Has draining begin or end; may be repeated.
  absl::StatusOr<tschandoff::v1::DrainResponse> Drain(tschandoff::v1::DrainRequest::Mode mode);

  // Has the agent read its configuration again.
  absl::StatusOr<tschandoff::v1::ReloadResponse> Reload();

  // What is pending, and then each change; of one VM, or, where `vm_id` is empty, of all. Has no
  // deadline, and is not repeated: when it has ended, call this again.
  std::unique_ptr<HandoffStream> WatchHandoffs(absl::string_view vm_id = "");

  // Reading calls and streams, those in progress and those to come, end with CANCELLED at once.
  void Stop();

  // Makes one call of a handoff, once. Whoever calls repeats it, as HandoffRun says. An error with
  // IsOutcomeUnknown(): it may have been carried out.
  absl::StatusOr<AgentAnswer> Call(const AgentRequest& request);

 private:
  // Keeps gRPC's headers, which cost seconds of compile time, out of the users' files.
  struct Rpc;
  class Stream;

  AgentClient(std::string target, AgentClientOptions options, std::unique_ptr<Rpc> rpc);

  // Runs a reading call with retries.
  absl::Status Read(const std::function<absl::Status(absl::Duration)>& attempt);

  // An UNAVAILABLE from here on means that something was sent.
  absl::Status EnsureConnected();

  const std::string target_;
  const AgentClientOptions options_;
  const std::unique_ptr<Rpc> rpc_;
};

// Keeps gRPC's own log off stderr for this process, unless the environment has GRPC_VERBOSITY. For
// command line tools, before the first Connect.
void QuietGrpcLog();

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_AGENT_CLIENT_H_
