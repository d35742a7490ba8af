// HandoffController: carries handoffs through their states on this host, and decides which VM may
// run here.
//
// Order in every step: decide (handoff_machine), write the journal, then change what others see:
// the table, the permit, the answer. What is not in the journal has not happened; the one effect
// that comes before its record is the destination's write, whose intent is journaled first and
// which is undone after a crash.
//
// Threading: thread-safe. Steps of one handoff, and of one VM, exclude each other (kVmBusy). Calls
// block for a VM's port and for the journal's sync.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_CONTROLLER_H_
#define TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_CONTROLLER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/handoff/claims.h"
#include "server/handoff/handoff_machine.h"
#include "server/handoff/handoff_table.h"
#include "server/handoff/ownership_rule.h"
#include "server/handoff/permits.h"
#include "server/handoff/tsc_operations.h"
#include "server/journal/journal.h"
#include "server/registry/vm_registry.h"

namespace tsc_handoff::handoff {

// Whether the caller has given up; asked before a step's point of no return.
using Cancelled = std::function<bool()>;
// Takes what need not precede the answer, to be done soon after it. Empty: it is done at once.
using Afterwards = std::function<void(std::function<void()>)>;

struct CaptureCall {
  std::string vm_id;
  std::string handoff_id;
  std::string destination_agent_id;  // 16 bytes
  std::string destination_vm_id;
  std::string request_digest;  // SHA-256 of the whole request
  // Makes the answer to be stored, from an outcome whose state has its ticket.
  std::function<std::string(const CaptureOutcome&)> encode;
  Cancelled cancelled;
  Afterwards afterwards;
};

struct ApplyCall {
  ApplyRequest request;        // its state has a ticket
  std::string request_digest;  // SHA-256 of the whole request
  std::function<std::string(const ApplyOutcome&)> encode;
  Cancelled cancelled;
  Afterwards afterwards;
};

// An answer as it was stored, or, for a destination's mere validation, as it is.
struct Answer {
  std::string bytes;
  bool repeated = false;  // it was given before
};

struct CommitCall {
  std::string handoff_id;
  journal::Side side = journal::Side::kSource;
  std::string release_proof;  // destination
  Cancelled cancelled;
  Afterwards afterwards;
};

struct AbortCall {
  std::string handoff_id;
  journal::Side side = journal::Side::kSource;
  std::string abort_proof;                    // destination
  std::optional<time::HandoffTicket> ticket;  // destination
  Cancelled cancelled;
};

// An operator's word on where a VM is, against what handoff `handoff_id` says (ownership_rule.h).
struct ClaimCall {
  Claim claim = Claim::kReclaim;
  std::string vm_id;
  std::string handoff_id;
  uint64_t epoch_above = 0;  // reclaim: the highest epoch that is known of elsewhere
  Cancelled cancelled;
};

struct ClaimOutcome {
  uint64_t epoch = 0;     // the VM's highest one here, from now on
  bool repeated = false;  // it was said before; nothing has changed
};

// A handoff as it is now.
struct HandoffView {
  std::shared_ptr<const journal::HandoffRecord> record;
  uint64_t ordinal = 0;
  int64_t silent_ns = 0;  // 0 unless pending
  bool undecided = false;
  bool vm_lost = false;
};

struct ListQuery {
  uint64_t before = 0;  // ordinal; 0: from the last
  size_t limit = 100;
  std::string vm_id;  // empty: all
  bool pending_only = false;
  bool undecided_only = false;
};

// What to leave out, so that tests can show that they notice. All false in the agent.
struct Mutations {
  bool accept_lower_epoch = false;
  bool apply_twice = false;        // a repeated apply writes again
  bool believe_any_proof = false;  // the destination becomes ACTIVE or ABORTED unproven
  bool forget_undo = false;        // after a crash, and at an abort
  bool keep_permit = false;        // at capture
};

class HandoffController {
 public:
  struct Parts {
    journal::Journal& journal;
    TscOperations& operations;
    registry::VmRegistry& registry;
    std::function<int64_t()> realtime_ns;             // CLOCK_REALTIME
    std::function<int64_t()> monotonic_ns;            // CLOCK_MONOTONIC
    std::function<std::string(size_t)> random_bytes;  // not to be guessed
    int64_t undecided_after_ns = 30'000'000'000;
    size_t max_handoffs = SIZE_MAX;  // that the journal holds; beyond it none begins
    // OPTIONAL. A change that is durable; called with locks held, must be quick.
    std::function<void(const journal::HandoffRecord&, Event)> on_change = {};
    // OPTIONAL. A VM was seen running without a permit; once per time that it does.
    std::function<void(const std::string& vm_id, const port::Permit&)> on_violation = {};
    Mutations mutations = {};
  };

  explicit HandoffController(Parts parts);

  // Reads the journal. To be called once, before everything else.
  absl::Status Start();

  // GetTscState with a handoff id. Errors: see tsc_agent.proto.
  absl::StatusOr<Answer> Capture(const CaptureCall& call);
  // SetTscState of a state with a ticket. Errors: see tsc_agent.proto.
  absl::StatusOr<Answer> Apply(const ApplyCall& call);
  // SetTscState of a plain state: refused while the VM is in a handoff.
  absl::StatusOr<ApplyOutcome> ApplyPlain(const ApplyRequest& request);
  absl::StatusOr<HandoffView> Commit(const CommitCall& call);
  absl::StatusOr<HandoffView> Abort(const AbortCall& call);
  // ReclaimVm, DisownVm.
  absl::StatusOr<ClaimOutcome> SettleClaim(const ClaimCall& call);

  // While draining, no handoff begins here (kAgentDraining); those that are open go on.
  void set_draining(bool draining) { draining_ = draining; }
  bool draining() const { return draining_; }
  // Handoffs that are neither committed nor aborted here.
  size_t OpenCount() const;

  // Null record when this agent does not know that side.
  HandoffView Get(const std::string& handoff_id, journal::Side side);
  std::vector<HandoffView> List(const ListQuery& query) const;
  // Of which VM a handoff is, without counting as a question for it; empty when that side is not
  // known. Of one that was aborted before its state came, the ticket's VM.
  std::string VmIdOf(const std::string& handoff_id, journal::Side side) const;
  // Whose VMM had the VM when the handoff was begun that it is in now: nullopt when it is in none.
  // -1: that is not known.
  std::optional<int64_t> OwnerInHandoff(const std::string& vm_id) const;
  VmStanding StandingOf(const registry::RegisteredVm& vm) const { return permits_.StandingOf(vm); }

  // To be called when a VM has registered: gives it its permit. Quick.
  void VmRegistered(const std::shared_ptr<registry::RegisteredVm>& vm) { permits_.Send(*vm); }

  // To be called about once a second: settles what a crash or an absent VMM left to be undone, and
  // looks for VMs that run without a permit. Returns the handoffs that are undecided.
  std::vector<HandoffView> Sweep();

  // To be called now and then: has the journal drop what ended more than `keep_ns` ago and nobody
  // can need any more, and forgets it. Returns how many.
  absl::StatusOr<size_t> Compact(int64_t keep_ns);

  // The journal has dropped this one.
  void Forget(const std::string& handoff_id, journal::Side side) { table_.Erase(handoff_id, side); }

 private:
  using Record = journal::HandoffRecord;
  using RecordPtr = HandoffTable::RecordPtr;

  absl::Status CheckJournal() const;
  absl::Status CheckNotDraining() const;
  absl::Status CheckRoom() const;
  absl::Status CheckCancelled(const Cancelled& cancelled) const;
  // Makes the change durable, and then known.
  absl::Status Write(const journal::Change& change, Event event);
  // The record in its next state, with the time of the change.
  Record Moved(const Record& record, journal::State next) const;
  // Tells the VMM, when the caller has his answer, why it may not run the VM: it has given up its
  // permit already, or never had one.
  void ExplainRefusal(const std::string& vm_id, const Afterwards& afterwards);
  HandoffView View(const TableEntry& entry, int64_t now_ns) const;
  HandoffView ViewOf(const std::string& handoff_id, journal::Side side) const;
  std::shared_ptr<registry::RegisteredVm> FindVm(const std::string& vm_id) const;

  absl::StatusOr<Answer> CaptureNew(const CaptureCall& call);
  absl::StatusOr<Answer> ApplyNew(const ApplyCall& call, const RecordPtr& earlier);
  absl::Status CheckTicket(const ApplyCall& call) const;
  absl::Status CheckEpoch(const time::HandoffTicket& ticket, const std::string& vm_id,
                          bool known) const;
  absl::Status CheckNotInAnother(const std::string& vm_id, const std::string& handoff_id) const;
  // After a write that failed: what is known of the VM becomes the record.
  void ApplyFailed(const Record& applying, const absl::Status& status);
  absl::StatusOr<HandoffView> AbortUnheard(const AbortCall& call);
  // Brings a destination's record up to date with its VM: undoes a write that a crash cut off,
  // notices that the VM is another one. Returns the record as it is then.
  absl::StatusOr<RecordPtr> Refresh(RecordPtr record);
  absl::StatusOr<RecordPtr> SettleApplying(const Record& record);
  // Writes back what an aborted handoff had changed, if its VM is there.
  absl::Status SettleAborted(const Record& record);
  // What an earlier, aborted handoff has left in the VM is undone before a later one notes what the
  // VM has.
  absl::Status SettleEarlier(const std::string& vm_id);
  // Whether a crash, or a VMM's end, has left something to do about it.
  bool NeedsSettling(const Record& record) const;
  // A handoff of the VM that is not finished on this side; null if there is none.
  RecordPtr PendingOf(const std::string& vm_id) const;
  // Whether undoing is over: done, or the VM is another one. An error: not yet.
  absl::Status Undo(const Record& record);

  const Parts parts_;
  HandoffTable table_;
  Claims claims_;
  Permits permits_;
  std::atomic<bool> draining_{false};
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_CONTROLLER_H_
