// The handoff's state machine: for each side one total table of state x event. Pure.
//
// Source:       -            Capture -> CAPTURED   Commit -> RELEASED   Abort -> ABORTED
// Destination:  EMPTY   Begin -> APPLYING   Done -> APPLIED   Commit -> ACTIVE   Abort -> ABORTED
//
// And, by an operator's word against the handoff's end (ownership_rule.h): Source: RELEASED Reclaim
// -> ABORTED.
//
// The source decides: CAPTURED becomes RELEASED or ABORTED once, durably, and only then the source
// discloses the proof with which the destination becomes ACTIVE or ABORTED. Hence, whatever
// orchestrators do: ACTIVE there implies RELEASED here, and ABORTED there implies ABORTED here.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_MACHINE_H_
#define TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_MACHINE_H_

#include <array>
#include <optional>

#include "server/base/error.h"
#include "server/journal/journal.h"

namespace tsc_handoff::handoff {

enum class Event {
  kCapture,  // source: GetTscState with a handoff id, the reading done
  kBegin,    // destination: SetTscState, checked, planned, nothing written yet
  kDone,     // destination: written and read back
  kUndone,   // destination: not written, or undone as a whole
  kVmLost,   // destination: the VM that it was applied to is gone
  kCommit,   // CommitHandoff; on the destination with a valid proof
  kAbort,    // AbortHandoff; on the destination with a valid proof
  kReclaim,  // source: ReclaimVm; an operator has said that the VM is here again
};
inline constexpr std::array kEvents = {Event::kCapture, Event::kBegin,  Event::kDone,
                                       Event::kUndone,  Event::kVmLost, Event::kCommit,
                                       Event::kAbort,   Event::kReclaim};

enum class Verdict {
  kGo,      // the transition is made
  kRepeat,  // it was made before: the stored answer again, nothing changes
  kRefuse,  // with `reason`; nothing changes
};

struct Step {
  Verdict verdict = Verdict::kRefuse;
  journal::State next = journal::State::kEmpty;  // with kGo
  Reason reason = Reason::kInternalError;        // with kRefuse
};

// What `event` does to a side in `state`; nullopt: no record of the handoff. Total: what cannot
// happen is refused with kInternalError.
Step Next(journal::Side side, std::optional<journal::State> state, Event event);

// Neither RELEASED, ACTIVE nor ABORTED.
bool IsPending(journal::State state);
// Whether a VM in such a handoff may take part in another one: not while its TSCs are spoken for.
bool OccupiesVm(journal::State state);

// The names in the API without their prefix: "CAPTURED", "Begin", "source".
const char* NameOf(journal::State state);
const char* NameOf(Event event);
const char* NameOf(journal::Side side);

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_MACHINE_H_
