// Observations: what was last seen of the TSCs of the host's VMs, and which of them changed by
// themselves.
//
// A VM's spread that changes while this agent wrote nothing to it means that a guest or a VMM wrote
// a TSC. The agent counts the beginnings and ends of its own writes, per process; a change with
// another count before and after is its own.
//
// Threading: any thread may ask; one at a time may tell.
#ifndef TSC_HANDOFF_SERVER_OBSERVE_OBSERVATIONS_H_
#define TSC_HANDOFF_SERVER_OBSERVE_OBSERVATIONS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "server/observe/tsc_view.h"

namespace tsc_handoff::observe {

struct Observation {
  size_t vcpus = 0;
  uint64_t phase_spread_ticks = 0;
  bool offsets_equal = true;  // and the ratios
  bool scaled = false;
  int64_t observed_at_ns = 0;  // CLOCK_REALTIME
  uint64_t changed_on_its_own = 0;
};

// Of all VMs together.
struct Totals {
  size_t vms = 0;
  size_t out_of_phase = 0;
  uint64_t most_spread_ticks = 0;
};

// Writes by this agent, by process; what is missing is 0.
using WriteCounts = std::map<pid_t, uint64_t>;

// A look at the host.
struct Look {
  WriteCounts writes_before;
  HostView view;
  WriteCounts writes_after;
  int64_t observed_at_ns = 0;
};

class Observations {
 public:
  // Returns the changes that are not the agent's own.
  std::vector<SpreadChange> Tell(const Look& look);

  // Of the VM of this process that has this descriptor; -1: of its only VM.
  std::optional<Observation> Of(pid_t pid, int vm_fd) const;
  Totals Sum() const;

 private:
  struct Entry {
    Observation seen;
    // The last view that was steady, and the count before it was read.
    std::optional<VmView> steady;
    uint64_t writes = 0;
  };

  mutable std::mutex mutex_;
  std::map<VmKey, Entry> entries_;  // guarded by mutex_
};

}  // namespace tsc_handoff::observe

#endif  // TSC_HANDOFF_SERVER_OBSERVE_OBSERVATIONS_H_
