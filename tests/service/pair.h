// Pair: a source and a destination host with real agents, the same VM on both, and clients of both
// through real gRPC channels. True time stands still unless somebody takes some: an ioctl 1 us, a
// reading of a clock 40 ns.
//
// Threading: as its parts.
#ifndef TSC_HANDOFF_TESTS_SERVICE_PAIR_H_
#define TSC_HANDOFF_TESTS_SERVICE_PAIR_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/lib/agent_client.h"
#include "client/lib/rpc_error.h"
#include "server/time/tsc_state.h"
#include "tests/sim_agent/sim_guest.h"
#include "tests/sim_agent/sim_node.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff {

namespace v1 = tschandoff::v1;

inline constexpr absl::Duration kPatience = absl::Seconds(20);

struct PairOptions {
  PairOptions();  // 2.1 GHz VMX and 3.5 GHz SVM, both scaling, wall clocks 11 us apart
  sim::SimNodeOptions source;
  sim::SimNodeOptions destination;
  sim::SimGuestOptions guest;              // 4 vCPUs, unequal phases and TSC_ADJUST
  sim::SimGuestOptions destination_guest;  // the same without these
  bool in_process = true;                  // else the VMMs connect to the agents' sockets
};

// A VM without anything special.
sim::SimGuestOptions Named(const std::string& vm_id, uint32_t vcpus = 1);

// What a VM has, to see that nothing changed.
struct Snapshot {
  std::vector<tsc_vcpu_state> vcpus;
  uint64_t kvmclock_ns = 0;
  int64_t true_ns = 0;
  bool master_clock = false;
};

Snapshot Look(const sim::SimGuest& guest);
// `kvmclock_tolerance_ns`: what a kvmclock that was written back may be off.
void ExpectUnchanged(const sim::SimGuest& guest, const Snapshot& before,
                     uint64_t kvmclock_tolerance_ns = 0);

// What every refusal has: code, reason, the agent's domain, and what to do next, also in the text.
void ExpectRefused(const absl::Status& status, absl::StatusCode code, const std::string& reason);

// Waits until `condition`; false after kPatience.
bool Await(const std::function<bool()>& condition);

std::unique_ptr<client::AgentClient> ClientOf(const sim::SimNode& node,
                                              absl::Duration timeout = kPatience);

// A state by its parts: opens, changes and seals it again.
v1::TscState Changed(const v1::TscState& state, const std::function<void(time::TscState&)>& change);

class Pair {
 public:
  // Fails the test when something does not start; see ok().
  explicit Pair(const PairOptions& options = {});
  bool ok() const { return ok_; }

  // Lets the VM run on the source, pauses and captures it, and lets 50 ms pass.
  v1::GetTscStateResponse Capture();
  // Of a capture, in ELAPSED mode, for the destination.
  v1::SetTscStateRequest Request();

  // The guest's TSCs on the destination minus those on the source at one instant, in ticks: the
  // true error of a handoff, of each vCPU.
  std::vector<int64_t> TrueErrorTicks() const;

  std::shared_ptr<sim::SimTime> time = std::make_shared<sim::SimTime>();
  std::unique_ptr<sim::SimNode> source;
  std::unique_ptr<sim::SimNode> destination;
  std::unique_ptr<sim::SimGuest> source_vm;
  std::unique_ptr<sim::SimGuest> destination_vm;
  std::unique_ptr<client::AgentClient> from;
  std::unique_ptr<client::AgentClient> to;

 private:
  void Start(const PairOptions& options);

  bool ok_ = false;
};

double TicksToNs(int64_t ticks, uint32_t khz);

// Also checks that it says something.
bool HasWarning(const google::protobuf::RepeatedPtrField<v1::Warning>& warnings,
                v1::Warning::Code code);

// One error for all vCPUs, which is phase exact, and within the bound.
void ExpectTrueErrorWithin(const Pair& pair, const v1::SetTscStateResponse& applied,
                           uint32_t guest_khz);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_PAIR_H_
