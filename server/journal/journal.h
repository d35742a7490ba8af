// Journal: what an agent must not forget, and the promise that what was written is on the disk.
//
// The journal knows no rules: which change follows which state is decided by server/handoff. It
// keeps, durably and atomically, one record per handoff and side, and one per VM.
#ifndef TSC_HANDOFF_SERVER_JOURNAL_JOURNAL_H_
#define TSC_HANDOFF_SERVER_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::journal {

// The numbers are those of the file's schema, and of Handoff.Side and Handoff.State in
// tsc_agent.proto; they never change.
enum class Side { kSource = 1, kDestination = 2 };
enum class State {
  kCaptured = 1,  // source
  kReleased = 2,  // source, final
  kAborted = 3,   // both, final
  kEmpty = 4,     // destination: known, nothing applied
  kApplying = 5,  // destination
  kApplied = 6,   // destination
  kActive = 7,    // destination, final
};

// One side of a handoff. Its key is (handoff_id, side).
struct HandoffRecord {
  Side side = Side::kSource;
  State state = State::kCaptured;
  std::string vm_id;           // the VM on this host; empty for a handoff that was aborted unheard
  time::HandoffTicket ticket;  // with the handoff_id
  std::string release_proof;   // source: 16 bytes, secret until RELEASED
  std::string abort_proof;     // source: 16 bytes, secret until ABORTED
  std::string vmm_instance;    // destination: which of the VM's VMMs the state was applied to
  std::string request_digest;  // SHA-256 of the request that `answer` answers
  std::string answer;          // serialised; returned when the same request comes again
  std::string undo;            // destination: what the VM had before, see server/handoff/undo.h
  std::string redo;            // destination: what was to be written, in the same form
  bool restored = false;       // destination, aborted: `undo` has been written back, or need not be
  int64_t begun_at_ns = 0;     // CLOCK_REALTIME
  int64_t changed_at_ns = 0;   // CLOCK_REALTIME

  bool operator==(const HandoffRecord&) const = default;
};

// Whose a VM is, as far as this agent was told. The numbers are those of the file's schema.
enum class Standing {
  kUnknown = 0,   // no handoff has decided it: it is where it was made
  kOwned = 1,     // arrived here
  kReleased = 2,  // left for another host
  kAwaited = 3,   // is to arrive here, and has not: on its way, or aborted after it was begun
  // Against what the handoffs say, by an operator's word (server/handoff/ownership_rule.h):
  kReclaimed = 4,  // is here
  kDisowned = 5,   // is not here any more
};

// Kept for ever, one per VM id.
struct VmRecord {
  std::string vm_id;
  uint64_t highest_epoch = 0;  // issued or accepted here
  Standing standing = Standing::kUnknown;
  // That made it so, or that the operator has overruled; empty with kUnknown.
  std::string handoff_id;
  // kOwned: to which the state was applied. kReclaimed: that was there then.
  std::string vmm_instance;
  // The user of the VMM that had the VM when its last handoff here was begun; -1: not known.
  int64_t owner_uid = -1;

  bool operator==(const VmRecord&) const = default;
};

// What becomes durable together, or not at all.
struct Change {
  std::optional<HandoffRecord> handoff;  // inserted, or replaces the one of its key
  std::optional<VmRecord> vm;            // inserted, or replaces the one of its vm_id
};

struct Contents {
  std::vector<HandoffRecord> handoffs;  // in the order in which they were begun
  std::vector<VmRecord> vms;            // ascending ids
};

struct HandoffKey {
  std::string handoff_id;
  Side side = Side::kSource;

  bool operator==(const HandoffKey&) const = default;
};

class Journal {
 public:
  virtual ~Journal() = default;

  // Identity of this journal and so of its agent: 16 random bytes, made with the file.
  virtual const std::string& agent_id() const = 0;

  // Everything. Called once, at the start.
  virtual absl::StatusOr<Contents> Load() = 0;

  // Returns when the change is on the disk, all of it. Concurrent calls share a sync. After an
  // error with which unavailable_reason stays empty, nothing of the change is there, and the
  // journal goes on. Otherwise it may be there after a restart or not, and this journal takes no
  // change any more. Errors: kJournalUnavailable.
  // Threading: from any thread. Blocks for a sync of the disk.
  virtual absl::Status Write(const Change& change) = 0;

  // Drops, durably, the records that nobody can need any more of those last changed before
  // `changed_before_ns` (CLOCK_REALTIME), and returns which: on the destination those of handoffs
  // that have ended and left nothing to undo; on the source those of handoffs that have ended, if a
  // later epoch of the VM was seen here. (After RELEASED that is one that has brought the VM back,
  // for which it must have arrived where it went.) So the proof of a VM's last handoff is never
  // lost, and no VmRecord is ever dropped.
  // Threading: from any thread. Errors: as Write.
  virtual absl::StatusOr<std::vector<HandoffKey>> Compact(int64_t changed_before_ns) = 0;

  // OPTIONAL. To be called with the time that each commit took, its sync of the disk included; from
  // any thread, and quick. To be set before the first Write.
  virtual void set_on_commit(std::function<void(int64_t commit_ns)> on_commit) = 0;

  // Why the journal takes no changes (damaged file, failed sync, full disk); empty while it does. A
  // sentence that names the file.
  virtual std::string unavailable_reason() const = 0;
};

}  // namespace tsc_handoff::journal

#endif  // TSC_HANDOFF_SERVER_JOURNAL_JOURNAL_H_
