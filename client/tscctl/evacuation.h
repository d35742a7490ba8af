// What an evacuation moves, and where: the agents, what was begun before, and the VMs that are
// still to be handed over.
//
// Threading: one thread finds; afterwards several may read, and set `silent`.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_H_

#include <atomic>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/lib/agent_client.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

struct EvacuationHost {
  std::string address;
  std::unique_ptr<client::AgentClient> agent;
  std::string agent_id;
  size_t vms = 0;  // that go there
  // It did not answer, for as long as a handoff waits: nothing more is begun with it.
  std::atomic<bool> silent{false};
};

// One VM, or one handoff that was begun before.
struct EvacuationJob {
  std::string vm_id;
  std::string handoff_id;            // of one to resume; empty: a new one
  EvacuationHost* target = nullptr;  // null only of what is left out
};

// The worst first, as they are listed.
enum class EvacuationOutcome { kPending, kAborted, kSkipped, kMoved };

// "pending", "aborted", "skipped", "moved".
const char* NameOf(EvacuationOutcome outcome);

// What came of a job.
struct EvacuationDone {
  EvacuationJob job;
  std::string handoff_id;
  EvacuationOutcome outcome = EvacuationOutcome::kSkipped;
  Explanation why;  // empty when it moved
};

struct Evacuation {
  EvacuationHost source;
  std::deque<EvacuationHost> targets;
  std::deque<EvacuationJob> jobs;       // what was begun before comes first
  std::deque<EvacuationDone> left_out;  // what this evacuation does not touch
  std::set<std::string> known;          // VMs that stand in one of the two
};

// Connects to all agents; an error where one does not answer, cannot hand over, or is named twice.
absl::Status Connect(const Options& options, Evacuation* evacuation);

// What an earlier evacuation, or anybody, has begun and not finished. The agents remember it.
absl::Status FindBegun(Evacuation* evacuation);

// The VMs that may run on the source and are not known yet; may be called again. How many jobs it
// found is the change of jobs.size().
absl::Status FindVms(Evacuation* evacuation);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_H_
