#include "server/handoff/handoff_controller.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/failpoint.h"
#include "server/base/sha256.h"

namespace tsc_handoff::handoff {
namespace {

using journal::Change;
using journal::HandoffRecord;
using journal::Side;
using journal::Standing;
using journal::State;
using journal::VmRecord;

constexpr size_t kProofBytes = 16;

absl::Status Busy(const std::string& what) {
  return Error(Reason::kVmBusy, absl::StrCat("another call works on ", what));
}

Metadata About(const HandoffRecord& record) {
  return {{"handoff_id", record.ticket.handoff_id},
          {"side", NameOf(record.side)},
          {"state", NameOf(record.state)},
          {"vm_id", record.vm_id},
          {"epoch", absl::StrCat(record.ticket.epoch)}};
}

absl::Status NotFound(const std::string& handoff_id, Side side) {
  return Error(Reason::kHandoffNotFound,
               absl::StrCat("this agent knows no handoff ", handoff_id, " as its ", NameOf(side)),
               {{"handoff_id", handoff_id}, {"side", NameOf(side)}});
}

// Why the machine refused, in words.
absl::Status Refused(const HandoffRecord& record, Event event, Reason reason) {
  const std::string state = NameOf(record.state);
  std::string text = absl::StrCat("handoff ", record.ticket.handoff_id, " is ", state,
                                  " on this host, its ", NameOf(record.side));
  if (reason == Reason::kHandoffDecided) {
    absl::StrAppend(&text, record.state == State::kAborted
                               ? ": it was aborted, there is no way forward"
                               : ": it was committed, there is no way back");
  } else if (reason == Reason::kHandoffUndecided) {
    absl::StrAppend(&text, ": the state must be applied before it can be committed");
  } else {
    absl::StrAppend(&text, ", where ", NameOf(event), " cannot happen");
  }
  return Error(reason, text, About(record));
}

absl::Status IdReused(const HandoffRecord& record) {
  return Error(Reason::kHandoffIdReused,
               absl::StrCat("handoff ", record.ticket.handoff_id, " of VM ", record.vm_id,
                            " exists already, with other content"),
               About(record));
}

absl::Status NoProof(const HandoffRecord& record, const char* of_what) {
  return Error(Reason::kHandoffUndecided,
               absl::StrCat("this is not the source's proof that it has ", of_what, " handoff ",
                            record.ticket.handoff_id),
               About(record));
}

absl::Status WrongTicket(const std::string& why) {
  return Error(Reason::kRequestInvalid, why, {{"field", "state"}});
}

// Whether the VM has what it had before the apply, or, after ROLLBACK_FAILED, what nobody can undo.
bool NothingToUndo(const absl::Status& status) {
  const auto reason = ReasonOf(status);
  return reason.has_value() && *reason != Reason::kVmmGone;
}

// A VM of this process is nobody else's to take.
int64_t OwnerOf(const registry::VmIdentity& vm) {
  return vm.port == registry::PortKind::kInProcess ? -1 : int64_t{vm.vmm_uid};
}

}  // namespace

HandoffController::HandoffController(Parts parts)
    : parts_(std::move(parts)),
      permits_(parts_.journal, table_, parts_.registry, parts_.on_violation) {}

absl::Status HandoffController::Start() {
  absl::StatusOr<journal::Contents> contents = parts_.journal.Load();
  if (!contents.ok()) return contents.status();
  table_.Load(*std::move(contents), parts_.monotonic_ns());
  return absl::OkStatus();
}

// ---- GetTscState ----

absl::StatusOr<Answer> HandoffController::Capture(const CaptureCall& call) {
  if (absl::Status status = CheckJournal(); !status.ok()) return status;
  const auto handoff = claims_.TryHandoff(call.handoff_id);
  if (!handoff.held()) return Busy(absl::StrCat("handoff ", call.handoff_id));
  const auto vm = claims_.TryVm(call.vm_id);
  if (!vm.held()) return Busy(absl::StrCat("VM ", call.vm_id));
  const RecordPtr record = table_.Find(call.handoff_id, Side::kSource);
  if (record == nullptr) return CaptureNew(call);
  table_.Touch(call.handoff_id, Side::kSource, parts_.monotonic_ns());
  if (record->request_digest != call.request_digest) return IdReused(*record);
  const Step step = Next(Side::kSource, record->state, Event::kCapture);
  if (step.verdict == Verdict::kRepeat) return Answer{record->answer, true};
  return Refused(*record, Event::kCapture, step.reason);
}

std::string HandoffController::VmIdOf(const std::string& handoff_id, Side side) const {
  const RecordPtr record = table_.Find(handoff_id, side);
  if (record == nullptr) return "";
  return record->vm_id.empty() ? record->ticket.destination_vm_id : record->vm_id;
}

std::optional<int64_t> HandoffController::OwnerInHandoff(const std::string& vm_id) const {
  if (table_.OccupantOf(vm_id) == nullptr) return std::nullopt;
  return table_.FindVm(vm_id).owner_uid;
}

absl::StatusOr<Answer> HandoffController::CaptureNew(const CaptureCall& call) {
  if (absl::Status status = CheckNotDraining(); !status.ok()) return status;
  if (absl::Status status = CheckRoom(); !status.ok()) return status;
  auto vm = parts_.registry.Find(call.vm_id);
  if (!vm.ok()) return vm.status();
  if (absl::Status status = CheckNotInAnother(call.vm_id, call.handoff_id); !status.ok())
    return status;
  VmRecord vm_record = table_.FindVm(call.vm_id);
  if (const port::Permit permit = permits_.OutsideOfHandoffs(**vm); !permit.granted) {
    return Error(
        Reason::kHandoffConflict,
        absl::StrCat("VM ", call.vm_id, " is not this host's to hand off: ", permit.reason),
        {{"vm_id", call.vm_id},
         {"handoff_id", vm_record.handoff_id},
         {"epoch", absl::StrCat(vm_record.highest_epoch)}});
  }
  const auto hold = parts_.mutations.keep_permit ? port::Hold::kNo : port::Hold::kYes;
  std::optional<Permits::Hold> held(std::in_place, permits_, call.vm_id);
  Failpoint("capture.begun");
  auto outcome = parts_.operations.Capture(call.vm_id, hold);
  Failpoint("capture.read");
  absl::Status status = outcome.status();
  Record record;
  if (status.ok()) {
    record.release_proof = parts_.random_bytes(kProofBytes);
    record.abort_proof = parts_.random_bytes(kProofBytes);
    record.ticket = {call.handoff_id,           ++vm_record.highest_epoch,
                     parts_.journal.agent_id(), call.destination_agent_id,
                     call.destination_vm_id,    Sha256(record.release_proof),
                     Sha256(record.abort_proof)};
    record.side = Side::kSource;
    record.state = State::kCaptured;
    record.vm_id = call.vm_id;
    vm_record.owner_uid = OwnerOf((*vm)->identity());
    record.begun_at_ns = record.changed_at_ns = parts_.realtime_ns();
    record.request_digest = call.request_digest;
    outcome->state.handoff = record.ticket;
    record.answer = call.encode(*outcome);
    status = CheckCancelled(call.cancelled);
  }
  Failpoint("capture.sealed");
  if (status.ok()) status = Write({record, vm_record}, Event::kCapture);
  Failpoint("capture.journaled");
  // While the journal's disk may have it, nobody may run the VM.
  if (!status.ok() && !CheckJournal().ok()) {
    held->KeepForGood();
    return status;
  }
  held.reset();
  if (!status.ok()) {
    permits_.Send(call.vm_id);
    return status;
  }
  ExplainRefusal(call.vm_id, call.afterwards);
  return Answer{record.answer, false};
}

// ---- SetTscState ----

absl::Status HandoffController::CheckTicket(const ApplyCall& call) const {
  const time::HandoffTicket& ticket = *call.request.state.handoff;
  if (ticket.destination_agent_id != parts_.journal.agent_id()) {
    return WrongTicket(absl::StrCat("the state was captured by handoff ", ticket.handoff_id,
                                    " for another host's agent"));
  }
  if (ticket.destination_vm_id != call.request.vm_id) {
    return WrongTicket(absl::StrCat("the state was captured by handoff ", ticket.handoff_id,
                                    " for VM ", ticket.destination_vm_id, ", not ",
                                    call.request.vm_id));
  }
  return absl::OkStatus();
}

absl::Status HandoffController::CheckEpoch(const time::HandoffTicket& ticket,
                                           const std::string& vm_id, bool known) const {
  const VmRecord vm = table_.FindVm(vm_id);
  if (ticket.epoch > vm.highest_epoch || (known && ticket.epoch == vm.highest_epoch) ||
      parts_.mutations.accept_lower_epoch)
    return absl::OkStatus();
  return Error(Reason::kStaleEpoch,
               absl::StrCat("handoff ", ticket.handoff_id, " of VM ", vm_id, " has epoch ",
                            ticket.epoch, "; this host has seen ", vm.highest_epoch),
               {{"vm_id", vm_id},
                {"handoff_id", ticket.handoff_id},
                {"epoch", absl::StrCat(ticket.epoch)},
                {"highest_epoch", absl::StrCat(vm.highest_epoch)}});
}

absl::Status HandoffController::CheckNotInAnother(const std::string& vm_id,
                                                  const std::string& handoff_id) const {
  const RecordPtr occupant = table_.OccupantOf(vm_id);
  if (occupant == nullptr || occupant->ticket.handoff_id == handoff_id) return absl::OkStatus();
  return Error(Reason::kHandoffConflict,
               absl::StrCat("VM ", vm_id, " is in handoff ", occupant->ticket.handoff_id, " (",
                            NameOf(occupant->state), ")"),
               About(*occupant));
}

absl::StatusOr<Answer> HandoffController::Apply(const ApplyCall& call) {
  if (absl::Status status = CheckJournal(); !status.ok()) return status;
  if (absl::Status status = CheckTicket(call); !status.ok()) return status;
  const time::HandoffTicket& ticket = *call.request.state.handoff;
  const auto handoff = claims_.TryHandoff(ticket.handoff_id);
  if (!handoff.held()) return Busy(absl::StrCat("handoff ", ticket.handoff_id));
  const auto vm = claims_.TryVm(call.request.vm_id);
  if (!vm.held()) return Busy(absl::StrCat("VM ", call.request.vm_id));
  RecordPtr record = table_.Find(ticket.handoff_id, Side::kDestination);
  if (record == nullptr) return ApplyNew(call, nullptr);
  table_.Touch(ticket.handoff_id, Side::kDestination, parts_.monotonic_ns());
  if (record->ticket != ticket) return IdReused(*record);
  auto refreshed = Refresh(std::move(record));
  if (!refreshed.ok()) return refreshed.status();
  record = *std::move(refreshed);
  const Step step = Next(Side::kDestination, record->state, Event::kBegin);
  if (step.verdict == Verdict::kRefuse) return Refused(*record, Event::kBegin, step.reason);
  if (step.verdict == Verdict::kGo ||
      (parts_.mutations.apply_twice && record->state == State::kApplied))
    return ApplyNew(call, record);
  if (record->request_digest != call.request_digest) return IdReused(*record);
  return Answer{record->answer, true};
}

absl::StatusOr<Answer> HandoffController::ApplyNew(const ApplyCall& call,
                                                   const RecordPtr& earlier) {
  const time::HandoffTicket& ticket = *call.request.state.handoff;
  const std::string& vm_id = call.request.vm_id;
  if (earlier == nullptr) {
    if (absl::Status status = CheckNotDraining(); !status.ok()) return status;
    if (absl::Status status = CheckRoom(); !status.ok()) return status;
  }
  if (absl::Status status = CheckEpoch(ticket, vm_id, earlier != nullptr); !status.ok())
    return status;
  if (absl::Status status = CheckNotInAnother(vm_id, ticket.handoff_id); !status.ok())
    return status;
  VmRecord vm_record = table_.FindVm(vm_id);
  const bool reclaimed = vm_record.standing == Standing::kReclaimed;
  if ((vm_record.standing == Standing::kOwned || reclaimed) &&
      !parts_.mutations.accept_lower_epoch) {
    return Error(Reason::kHandoffConflict,
                 absl::StrCat("VM ", vm_id, " runs on this host since ",
                              reclaimed ? "it was reclaimed after handoff " : "handoff ",
                              vm_record.handoff_id, "; it cannot arrive again"),
                 {{"vm_id", vm_id},
                  {"handoff_id", vm_record.handoff_id},
                  {"epoch", absl::StrCat(vm_record.highest_epoch)}});
  }
  auto vm = parts_.registry.Find(vm_id);
  if (!vm.ok()) return vm.status();
  if (!call.request.validate_only) {
    if (absl::Status status = SettleEarlier(vm_id); !status.ok()) return status;
  }

  ApplyRequest request = call.request;
  Record record = earlier != nullptr ? *earlier : Record();
  bool begun = false;
  if (!request.validate_only) {
    request.hold = port::Hold::kYes;
    request.before_write = [&](const SavedTscs& before, const SavedTscs& after) {
      record.side = Side::kDestination;
      record.state = State::kApplying;
      record.vm_id = vm_id;
      record.ticket = ticket;
      record.vmm_instance = (*vm)->identity().vmm_instance;
      record.request_digest = call.request_digest;
      record.answer.clear();
      record.undo = Serialise(before);
      record.redo = Serialise(after);
      record.restored = false;
      record.changed_at_ns = parts_.realtime_ns();
      if (record.begun_at_ns == 0) record.begun_at_ns = record.changed_at_ns;
      vm_record.highest_epoch = std::max(vm_record.highest_epoch, ticket.epoch);
      vm_record.standing = Standing::kAwaited;
      vm_record.owner_uid = OwnerOf((*vm)->identity());
      vm_record.handoff_id = ticket.handoff_id;
      Failpoint("apply.planned");
      if (absl::Status status = CheckCancelled(call.cancelled); !status.ok()) return status;
      absl::Status status = Write({record, vm_record}, Event::kBegin);
      begun = status.ok();
      Failpoint("apply.intent_journaled");
      return status;
    };
  }
  std::optional<Permits::Hold> held(std::in_place, permits_, vm_id);
  Failpoint("apply.begun");
  auto outcome = parts_.operations.Apply(request);
  held.reset();
  Failpoint("apply.written");
  if (!outcome.ok()) {
    if (begun) ApplyFailed(record, outcome.status());
    permits_.Send(vm_id);
    return outcome.status();
  }
  Answer answer{call.encode(*outcome), false};
  if (request.validate_only) return answer;
  Record applied = Moved(record, State::kApplied);
  applied.answer = answer.bytes;
  if (absl::Status status = Write({applied, std::nullopt}, Event::kDone); !status.ok())
    return status;  // APPLYING: to be undone, by whoever comes next
  Failpoint("apply.journaled");
  ExplainRefusal(vm_id, call.afterwards);
  return answer;
}

void HandoffController::ApplyFailed(const Record& applying, const absl::Status& status) {
  if (!NothingToUndo(status)) return;  // to be found out when the VMM is back
  Record empty = Moved(applying, State::kEmpty);
  empty.undo.clear();
  empty.redo.clear();
  // Should this fail, the record stays as it is, to be settled by whoever comes next.
  (void)Write({empty, std::nullopt}, Event::kUndone);
}

absl::StatusOr<ApplyOutcome> HandoffController::ApplyPlain(const ApplyRequest& request) {
  const auto vm = claims_.TryVm(request.vm_id);
  if (!vm.held()) return Busy(absl::StrCat("VM ", request.vm_id));
  if (absl::Status status = CheckNotInAnother(request.vm_id, ""); !status.ok()) return status;
  return parts_.operations.Apply(request);
}

// ---- CommitHandoff, AbortHandoff ----

absl::StatusOr<HandoffView> HandoffController::Commit(const CommitCall& call) {
  if (absl::Status status = CheckJournal(); !status.ok()) return status;
  const auto handoff = claims_.TryHandoff(call.handoff_id);
  if (!handoff.held()) return Busy(absl::StrCat("handoff ", call.handoff_id));
  RecordPtr record = table_.Find(call.handoff_id, call.side);
  if (record == nullptr) return NotFound(call.handoff_id, call.side);
  const auto vm = claims_.TryVm(record->vm_id);
  if (!vm.held()) return Busy(absl::StrCat("VM ", record->vm_id));
  table_.Touch(call.handoff_id, call.side, parts_.monotonic_ns());
  const bool arrives = call.side == Side::kDestination;
  if (arrives) {
    if (Sha256(call.release_proof) != record->ticket.release_digest &&
        !parts_.mutations.believe_any_proof)
      return NoProof(*record, "released");
    auto refreshed = Refresh(std::move(record));
    if (!refreshed.ok()) return refreshed.status();
    record = *std::move(refreshed);
  }
  const Step step = Next(call.side, record->state, Event::kCommit);
  if (step.verdict == Verdict::kRefuse) return Refused(*record, Event::kCommit, step.reason);
  if (step.verdict == Verdict::kGo) {
    // Only a VM that is there, with the state in it, may be let go.
    if (arrives) {
      if (auto found = parts_.registry.Find(record->vm_id); !found.ok()) return found.status();
    }
    if (absl::Status status = CheckCancelled(call.cancelled); !status.ok()) return status;
    Change change{Moved(*record, step.next), table_.FindVm(record->vm_id)};
    change.vm->standing = arrives ? Standing::kOwned : Standing::kReleased;
    change.vm->handoff_id = call.handoff_id;
    change.vm->vmm_instance = record->vmm_instance;
    if (arrives) {
      change.handoff->undo.clear();
      change.handoff->redo.clear();
    }
    Failpoint(arrives ? "commit.destination.decided" : "commit.source.decided");
    if (absl::Status status = Write(change, Event::kCommit); !status.ok()) return status;
    Failpoint(arrives ? "commit.destination.journaled" : "commit.source.journaled");
    if (arrives) {
      permits_.Send(record->vm_id);  // first of all: the guest waits for it
      Failpoint("commit.destination.permit_sent");
    } else {
      ExplainRefusal(record->vm_id, call.afterwards);
    }
  }
  return ViewOf(call.handoff_id, call.side);
}

absl::StatusOr<HandoffView> HandoffController::Abort(const AbortCall& call) {
  if (absl::Status status = CheckJournal(); !status.ok()) return status;
  const auto handoff = claims_.TryHandoff(call.handoff_id);
  if (!handoff.held()) return Busy(absl::StrCat("handoff ", call.handoff_id));
  RecordPtr record = table_.Find(call.handoff_id, call.side);
  const bool arrives = call.side == Side::kDestination;
  if (record == nullptr) {
    if (!arrives) return NotFound(call.handoff_id, call.side);
    return AbortUnheard(call);
  }
  const auto vm = claims_.TryVm(record->vm_id);
  if (!vm.held()) return Busy(absl::StrCat("VM ", record->vm_id));
  table_.Touch(call.handoff_id, call.side, parts_.monotonic_ns());
  if (arrives) {
    if (Sha256(call.abort_proof) != record->ticket.abort_digest &&
        !parts_.mutations.believe_any_proof)
      return NoProof(*record, "given up");
    // A VMM that is away does not hinder: what is to be undone is undone when it is back.
    auto refreshed = Refresh(record);
    if (refreshed.ok()) record = *std::move(refreshed);
  }
  // What could not be settled yet counts as applied: aborting undoes it.
  const State state = record->state == State::kApplying ? State::kApplied : record->state;
  const Step step = Next(call.side, state, Event::kAbort);
  if (step.verdict == Verdict::kRefuse) return Refused(*record, Event::kAbort, step.reason);
  if (step.verdict == Verdict::kGo) {
    if (absl::Status status = CheckCancelled(call.cancelled); !status.ok()) return status;
    Change change{Moved(*record, step.next), std::nullopt};
    if (arrives) change.handoff->restored = record->undo.empty();
    Failpoint(arrives ? "abort.destination.decided" : "abort.source.decided");
    if (absl::Status status = Write(change, Event::kAbort); !status.ok()) return status;
    Failpoint(arrives ? "abort.destination.journaled" : "abort.source.journaled");
    if (arrives) (void)SettleAborted(*change.handoff);
    permits_.Send(record->vm_id);
    Failpoint(arrives ? "abort.destination.permit_sent" : "abort.source.permit_sent");
  }
  return ViewOf(call.handoff_id, call.side);
}

absl::StatusOr<HandoffView> HandoffController::AbortUnheard(const AbortCall& call) {
  if (!call.ticket.has_value() || call.ticket->handoff_id != call.handoff_id ||
      call.ticket->destination_agent_id != parts_.journal.agent_id()) {
    return Error(Reason::kRequestInvalid,
                 absl::StrCat("this host has not heard of handoff ", call.handoff_id,
                              "; to bar it, its ticket for this agent is needed"),
                 {{"field", "ticket"}, {"handoff_id", call.handoff_id}});
  }
  Record record;
  record.side = Side::kDestination;
  record.ticket = *call.ticket;
  if (Sha256(call.abort_proof) != record.ticket.abort_digest && !parts_.mutations.believe_any_proof)
    return NoProof(record, "given up");
  if (absl::Status status = CheckRoom(); !status.ok()) return status;
  if (absl::Status status = CheckCancelled(call.cancelled); !status.ok()) return status;
  record.state = Next(Side::kDestination, std::nullopt, Event::kAbort).next;
  record.restored = true;
  record.begun_at_ns = record.changed_at_ns = parts_.realtime_ns();
  if (absl::Status status = Write({record, std::nullopt}, Event::kAbort); !status.ok())
    return status;
  return ViewOf(call.handoff_id, Side::kDestination);
}

// ---- after crashes, and with VMMs that come and go ----

absl::StatusOr<HandoffController::RecordPtr> HandoffController::Refresh(RecordPtr record) {
  if (record->state == State::kApplying) return SettleApplying(*record);
  if (record->state != State::kApplied) return record;
  const auto vm = FindVm(record->vm_id);
  if (vm == nullptr || vm->identity().vmm_instance == record->vmm_instance) return record;
  Record empty = Moved(*record, Next(Side::kDestination, record->state, Event::kVmLost).next);
  empty.undo.clear();
  empty.redo.clear();
  empty.answer.clear();
  if (absl::Status status = Write({empty, std::nullopt}, Event::kVmLost); !status.ok())
    return status;
  permits_.Send(empty.vm_id);
  return table_.Find(empty.ticket.handoff_id, Side::kDestination);
}

absl::StatusOr<HandoffController::RecordPtr> HandoffController::SettleApplying(
    const Record& record) {
  if (absl::Status status = Undo(record); !status.ok()) return status;
  Failpoint("recover.undone");
  Record empty = Moved(record, Next(Side::kDestination, record.state, Event::kUndone).next);
  empty.undo.clear();
  empty.redo.clear();
  if (absl::Status status = Write({empty, std::nullopt}, Event::kUndone); !status.ok())
    return status;
  Failpoint("recover.journaled");
  permits_.Send(empty.vm_id);
  return table_.Find(empty.ticket.handoff_id, Side::kDestination);
}

absl::Status HandoffController::SettleEarlier(const std::string& vm_id) {
  for (const TableEntry& entry : table_.ListOpen()) {
    const Record& record = *entry.record;
    if (record.vm_id != vm_id || record.state != State::kAborted) continue;
    if (absl::Status status = SettleAborted(record); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status HandoffController::SettleAborted(const Record& record) {
  if (record.restored) return absl::OkStatus();
  if (absl::Status status = Undo(record); !status.ok()) return status;
  Failpoint("abort.destination.restored");
  Record settled = record;
  settled.restored = true;
  settled.undo.clear();
  settled.redo.clear();
  // Should this be lost, it is done again: writing back twice is writing back once.
  return Write({settled, std::nullopt}, Event::kUndone);
}

absl::Status HandoffController::Undo(const Record& record) {
  if (parts_.mutations.forget_undo) return absl::OkStatus();
  auto vm = parts_.registry.Find(record.vm_id);
  if (!vm.ok()) return vm.status();
  if ((*vm)->identity().vmm_instance != record.vmm_instance) return absl::OkStatus();
  const auto before = ParseSavedTscs(record.undo);
  const auto after = ParseSavedTscs(record.redo);
  if (!before.has_value() || !after.has_value()) {
    return Error(Reason::kInternalError,
                 absl::StrCat("the journal's note of what VM ", record.vm_id,
                              " had before handoff ", record.ticket.handoff_id, " cannot be read"),
                 About(record));
  }
  return parts_.operations.Restore(record.vm_id, *before, *after);
}

bool HandoffController::NeedsSettling(const Record& record) const {
  if (record.side == Side::kSource) return false;
  switch (record.state) {
    case State::kApplying:
      return true;
    case State::kApplied: {
      const auto vm = FindVm(record.vm_id);
      return vm != nullptr && vm->identity().vmm_instance != record.vmm_instance;
    }
    case State::kAborted:
      return !record.restored;
    default:
      return false;
  }
}

std::vector<HandoffView> HandoffController::Sweep() {
  std::vector<HandoffView> undecided;
  for (const TableEntry& entry : table_.ListOpen()) {
    const int64_t now_ns = parts_.monotonic_ns();
    if (HandoffView view = View(entry, now_ns); view.undecided)
      undecided.push_back(std::move(view));
    // Nothing is claimed where there is nothing to do: it would make a call that comes now fail.
    if (!CheckJournal().ok() || !NeedsSettling(*entry.record)) continue;
    const auto handoff = claims_.TryHandoff(entry.record->ticket.handoff_id);
    const auto vm = claims_.TryVm(entry.record->vm_id);
    if (!handoff.held() || !vm.held()) continue;  // somebody sees to it
    const RecordPtr record = table_.Find(entry.record->ticket.handoff_id, Side::kDestination);
    if (record == nullptr) continue;
    if (record->state == State::kAborted) {
      (void)SettleAborted(*record);
    } else {
      (void)Refresh(record);
    }
  }
  if (CheckJournal().ok()) permits_.LookForViolations();
  return undecided;
}

absl::StatusOr<size_t> HandoffController::Compact(int64_t keep_ns) {
  const auto dropped = parts_.journal.Compact(parts_.realtime_ns() - keep_ns);
  if (!dropped.ok()) return dropped.status();
  for (const journal::HandoffKey& key : *dropped) Forget(key.handoff_id, key.side);
  return dropped->size();
}

// ---- what others see ----

HandoffView HandoffController::Get(const std::string& handoff_id, Side side) {
  table_.Touch(handoff_id, side, parts_.monotonic_ns());
  return ViewOf(handoff_id, side);
}

size_t HandoffController::OpenCount() const {
  const auto open = table_.ListOpen();
  return static_cast<size_t>(std::count_if(open.begin(), open.end(), [](const TableEntry& entry) {
    return IsPending(entry.record->state);
  }));
}

HandoffView HandoffController::ViewOf(const std::string& handoff_id, Side side) const {
  const RecordPtr record = table_.Find(handoff_id, side);
  if (record == nullptr) return {};
  const int64_t now_ns = parts_.monotonic_ns();
  return View({record, 0, now_ns}, now_ns);
}

std::vector<HandoffView> HandoffController::List(const ListQuery& query) const {
  const int64_t now_ns = parts_.monotonic_ns();
  const auto passes = [&](const TableEntry& entry) {
    const Record& record = *entry.record;
    if (!query.vm_id.empty() && record.vm_id != query.vm_id) return false;
    const bool pending = IsPending(record.state);
    if ((query.pending_only || query.undecided_only) && !pending) return false;
    return !query.undecided_only || now_ns - entry.heard_at_ns > parts_.undecided_after_ns;
  };
  std::vector<HandoffView> views;
  if (!query.pending_only && !query.undecided_only) {
    for (const TableEntry& entry : table_.List(query.before, query.limit, passes))
      views.push_back(View(entry, now_ns));
    return views;
  }
  for (const TableEntry& entry : table_.ListOpen()) {
    if (query.before != 0 && entry.ordinal >= query.before) continue;
    if (views.size() < query.limit && passes(entry)) views.push_back(View(entry, now_ns));
  }
  return views;
}

HandoffView HandoffController::View(const TableEntry& entry, int64_t now_ns) const {
  HandoffView view;
  view.record = entry.record;
  view.ordinal = entry.ordinal;
  if (IsPending(entry.record->state)) {
    view.silent_ns = std::max<int64_t>(now_ns - entry.heard_at_ns, 0);
    view.undecided = view.silent_ns > parts_.undecided_after_ns;
  }
  if (entry.record->state == State::kApplied) {
    const auto vm = FindVm(entry.record->vm_id);
    view.vm_lost = vm == nullptr || vm->identity().vmm_instance != entry.record->vmm_instance;
  }
  return view;
}

// ---- helpers ----

absl::Status HandoffController::CheckJournal() const {
  const std::string reason = parts_.journal.unavailable_reason();
  return reason.empty() ? absl::OkStatus() : Error(Reason::kJournalUnavailable, reason);
}

absl::Status HandoffController::CheckNotDraining() const {
  if (!draining_) return absl::OkStatus();
  return Error(Reason::kAgentDraining, "this host's agent is being drained; it begins no handoff");
}

// The journal's and this process's memory are finite, and a handoff id is the caller's choice.
absl::Status HandoffController::CheckRoom() const {
  const size_t held = table_.size();
  if (held < parts_.max_handoffs) return absl::OkStatus();
  return Error(Reason::kLimitExceeded,
               absl::StrCat("the journal of this host's agent holds ", held,
                            " handoffs, which is the limit (--max-handoffs); it forgets those that "
                            "ended after --keep-handoffs"),
               {{"limit", absl::StrCat(parts_.max_handoffs)}});
}

absl::Status HandoffController::CheckCancelled(const Cancelled& cancelled) const {
  if (!cancelled || !cancelled()) return absl::OkStatus();
  return absl::CancelledError("the caller has given up; nothing was changed");
}

absl::Status HandoffController::Write(const Change& change, Event event) {
  if (absl::Status status = parts_.journal.Write(change); !status.ok()) return status;
  table_.Put(change, parts_.monotonic_ns());
  if (parts_.on_change && change.handoff.has_value()) parts_.on_change(*change.handoff, event);
  return absl::OkStatus();
}

void HandoffController::ExplainRefusal(const std::string& vm_id, const Afterwards& afterwards) {
  const auto explain = [this, vm_id] {
    permits_.Send(vm_id);
    Failpoint("refusal.explained");
  };
  if (afterwards) {
    afterwards(explain);
  } else {
    explain();
  }
}

HandoffController::Record HandoffController::Moved(const Record& record, State next) const {
  Record moved = record;
  moved.state = next;
  moved.changed_at_ns = parts_.realtime_ns();
  return moved;
}

std::shared_ptr<registry::RegisteredVm> HandoffController::FindVm(const std::string& vm_id) const {
  auto found = parts_.registry.Find(vm_id);
  return found.ok() ? *std::move(found) : nullptr;
}

}  // namespace tsc_handoff::handoff
