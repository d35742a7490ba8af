// Tally: how often what happened in all the worlds, so that a simulation that has gone blind shows.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_TALLY_H_
#define TSC_HANDOFF_TESTS_SIMULATE_TALLY_H_

#include <array>
#include <cstdint>
#include <string>

namespace tsc_handoff::simulate {

enum class Fact {
  kHandoff,             // captured
  kCommitted,           // RELEASED and ACTIVE
  kAborted,             // ABORTED on the source
  kAbortedUnheard,      // barred on a destination that had not heard of it
  kRestored,            // a destination wrote back what the VM had
  kRecovered,           // APPLYING after a crash was undone
  kVmLost,              // APPLIED, and another VMM came
  kReapplied,           // applied again after that
  kReleasedUnapplied,   // RELEASED while the destination had nothing
  kRepeated,            // the same request again was answered with the stored answer
  kConflict,            // HANDOFF_CONFLICT
  kStaleEpoch,          // STALE_EPOCH
  kDecided,             // HANDOFF_DECIDED
  kUndecided,           // HANDOFF_UNDECIDED
  kBusy,                // VM_BUSY
  kIdReused,            // HANDOFF_ID_REUSED
  kClockRefused,        // CLOCK_UNTRUSTED, CLOCK_BOUND_EXCEEDED, TIME_WOULD_GO_BACK
  kVmRunning,           // VM_RUNNING
  kVmmGone,             // VMM_GONE
  kCancelled,           // a call that was given up before it did anything
  kJournalUnavailable,  // JOURNAL_UNAVAILABLE
  kRollbackFailed,
  kAgentCrashed,
  kCrashedUnsynced,  // with a change written and not synced
  kCrashedUntold,    // with a change synced and not told
  kVmmDied,
  kVmmReconnected,
  kOrchestratorDied,
  kMessageLost,
  kMessageLate,
  kMessageAgain,
  kClockStepped,
  kTwoOrchestrators,  // at once on one handoff
  kTwoHandoffs,       // at once on one VM
  kCameBack,          // a VM returned to a host that it had left
  kResumedByAnother,  // ended by an orchestrator that did not begin it
  kEndedInCalm,       // ended only when the faults had stopped
  kForgotten,         // records dropped by compaction
  kCount,
};

class Tally {
 public:
  void Add(Fact fact, int64_t times = 1) { counts_[static_cast<size_t>(fact)] += times; }
  int64_t operator[](Fact fact) const { return counts_[static_cast<size_t>(fact)]; }
  // A line each.
  std::string Text() const;

 private:
  std::array<int64_t, static_cast<size_t>(Fact::kCount)> counts_ = {};
};

const char* NameOf(Fact fact);

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_TALLY_H_
