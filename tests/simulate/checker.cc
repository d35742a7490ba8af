#include "tests/simulate/checker.h"

#include <algorithm>

#include "server/state/tsc_state_codec.h"

namespace tsc_handoff::simulate {
namespace {

namespace v1 = tschandoff::v1;
using handoff::Event;
using handoff::NameOf;
using journal::HandoffRecord;
using journal::Side;
using journal::State;

std::string About(const Host& host, const HandoffRecord& record) {
  return absl::StrCat(" (host ", host.name(), ", the ", NameOf(record.side), " of handoff ",
                      record.ticket.handoff_id, ", VM ", record.vm_id, ")");
}

// Which states may come before, by the design; no regard to the table in handoff_machine.cc.
bool MayFollow(std::optional<State> before, State state, Side side) {
  if (side == Side::kSource) {
    if (state == State::kCaptured) return !before.has_value();
    return before == State::kCaptured;
  }
  switch (state) {
    case State::kApplying:
      return !before.has_value() || before == State::kEmpty;
    case State::kApplied:
      return before == State::kApplying;
    case State::kEmpty:
      return before == State::kApplying || before == State::kApplied;
    case State::kActive:
      return before == State::kApplied;
    case State::kAborted:
      return before != State::kActive;
    default:
      return false;
  }
}

}  // namespace

void Checker::InDoubt(const Host& host, const journal::Change& change) {
  const HandoffRecord& record = *change.handoff;
  in_doubt_[{host.number(), record.ticket.handoff_id, record.side}].push_back(record.state);
}

void Checker::Tell(const Host& host, const HandoffRecord& record) {
  Told& told = told_[record.ticket.handoff_id];
  if (record.side == Side::kSource) {
    told.vm_id = record.vm_id;
    told.source = host.number();
    told.at_source = record.state;
    for (const Host* other : hosts_) {
      if (other->agent_id() == record.ticket.destination_agent_id)
        told.destination = other->number();
    }
  } else {
    told.at_destination = record.state;
    told.restored = record.restored;
  }
  CheckSides(record.ticket.handoff_id, told);
}

void Checker::CheckSides(const std::string& handoff_id, const Told& told) {
  if (told.at_destination == State::kActive && told.at_source != State::kReleased)
    context_.Violate(absl::StrCat("I5: handoff ", handoff_id, " is ACTIVE and was not released"));
  if (told.at_destination == State::kAborted && told.at_source != State::kAborted)
    context_.Violate(
        absl::StrCat("I5: handoff ", handoff_id, " is ABORTED and its source did not abort"));
}

void Checker::Changed(Host& host, const HandoffRecord& record, Event event) {
  const Key key{host.number(), record.ticket.handoff_id, record.side};
  if (context_.tracing()) {
    context_.Note(host.name(), ": ", NameOf(event), ": handoff ", record.ticket.handoff_id, " of ",
                  record.vm_id, " is ", NameOf(record.state), " here, its ", NameOf(record.side),
                  ", epoch ", record.ticket.epoch);
  }
  in_doubt_.erase(key);
  const auto before = noted_.find(key);
  const std::optional<State> earlier =
      before == noted_.end() ? std::nullopt : std::optional(before->second);
  if (!MayFollow(earlier, record.state, record.side) &&
      !(earlier == State::kAborted && record.state == State::kAborted && record.restored)) {
    context_.Violate(absl::StrCat("I3: ", earlier.has_value() ? NameOf(*earlier) : "nothing",
                                  " became ", NameOf(record.state), About(host, record)));
  }
  noted_[key] = record.state;
  Tell(host, record);
  switch (event) {
    case Event::kCapture:
      Captured(host, record);
      break;
    case Event::kBegin:
      Begun(host, record);
      break;
    case Event::kDone:
      Applied(host, record);
      break;
    case Event::kUndone:
      if (applying_at_start_.erase(key) > 0) context_.Count(Fact::kRecovered);
      Undone(host, record);
      break;
    case Event::kVmLost:
      context_.Count(Fact::kVmLost);
      break;
    case Event::kCommit:
      if (record.side == Side::kDestination) Arrived(host, record);
      if (record.side == Side::kSource &&
          told_[record.ticket.handoff_id].at_destination != State::kApplied)
        context_.Count(Fact::kReleasedUnapplied);
      break;
    case Event::kAbort:
      if (record.side == Side::kSource) context_.Count(Fact::kAborted);
      if (record.side == Side::kDestination && record.restored) {
        if (record.vm_id.empty()) context_.Count(Fact::kAbortedUnheard);
        Undone(host, record);
      }
      break;
    case Event::kReclaim:
      context_.Violate(absl::StrCat("nobody has given an operator's word", About(host, record)));
      break;
  }
}

VmmPtr Checker::VmmOf(Host& host, const HandoffRecord& record) const {
  VmmPtr vmm = host.FindVmm(record.vm_id);
  if (vmm == nullptr) return nullptr;
  if (record.side == Side::kDestination && vmm->instance != record.vmm_instance) return nullptr;
  return vmm;
}

uint64_t Checker::GuestTsc(const Host& host, const Vmm& vmm, size_t vcpu, int64_t at_ps) const {
  const auto scaling = time::TscScaling::For(host.facts().tsc, vmm.guest_khz);
  const auto ticks = static_cast<uint64_t>(const_cast<Host&>(host).clocks().TrueTscAt(at_ps));
  return scaling->Scale(ticks) + vmm.offsets[vcpu];
}

void Checker::Captured(Host& host, const HandoffRecord& record) {
  context_.Count(Fact::kHandoff);
  Highest& highest = highest_[{host.number(), record.vm_id}];
  if (record.ticket.epoch <= highest.epoch)
    context_.Violate(absl::StrCat("I5: epoch ", record.ticket.epoch, " was issued after ",
                                  highest.epoch, About(host, record)));
  highest = {record.ticket.epoch, record.ticket.handoff_id};
  const VmmPtr vmm = VmmOf(host, record);
  if (vmm == nullptr) return;
  if (vmm->Holds())
    context_.Violate(absl::StrCat("I5: the VM is captured, and may run", About(host, record)));
  v1::GetTscStateResponse answer;
  absl::StatusOr<time::TscState> state = absl::InternalError("");
  if (answer.ParseFromString(record.answer)) state = state::Decode(answer.state());
  if (!state.ok()) {
    context_.Violate(absl::StrCat("a capture's answer cannot be read", About(host, record)));
    return;
  }
  Truth& truth = truths_[record.ticket.handoff_id];
  truth = {&host, vmm->guest_khz, vmm->offsets, {}};
  for (const time::VcpuTsc& vcpu : state->vcpus) truth.captured.push_back(vcpu.guest_tsc_ticks);
}

void Checker::Begun(Host& host, const HandoffRecord& record) {
  Highest& highest = highest_[{host.number(), record.vm_id}];
  if (record.ticket.epoch < highest.epoch ||
      (record.ticket.epoch == highest.epoch && record.ticket.handoff_id != highest.handoff_id))
    context_.Violate(absl::StrCat("I5: epoch ", record.ticket.epoch, " was accepted after ",
                                  highest.epoch, About(host, record)));
  highest = {record.ticket.epoch, record.ticket.handoff_id};
  if (++told_[record.ticket.handoff_id].applies > 1) context_.Count(Fact::kReapplied);
  for (auto it = applies_.lower_bound({record.ticket.handoff_id, ""});
       it != applies_.end() && it->first.first == record.ticket.handoff_id;)
    it = applies_.erase(it);
  const VmmPtr vmm = VmmOf(host, record);
  if (vmm == nullptr || vmm->before.has_value()) return;
  vmm->before = vmm->offsets;
  vmm->before_of = record.ticket.handoff_id;
}

void Checker::Applied(Host& host, const HandoffRecord& record) {
  const auto found = truths_.find(record.ticket.handoff_id);
  const VmmPtr vmm = VmmOf(host, record);
  if (found == truths_.end() || vmm == nullptr) return;
  const Truth& truth = found->second;
  applied_[record.ticket.handoff_id] = vmm->offsets;
  v1::SetTscStateResponse answer;
  if (!answer.ParseFromString(record.answer)) {
    context_.Violate(absl::StrCat("an apply's answer cannot be read", About(host, record)));
    return;
  }
  Vmm there;  // the VM, had it stayed
  there.guest_khz = truth.guest_khz;
  there.offsets = truth.offsets;
  clock_sim::SimClocks& clocks = host.clocks();
  const int64_t reference_ps =
      clocks.WhenTscWas(clocks.Unwrap(answer.reference().host_tsc_ticks()));
  for (size_t i = 0; i < truth.offsets.size(); ++i) {
    if (vmm->offsets[i] - vmm->offsets[0] != truth.offsets[i] - truth.offsets[0])
      context_.Violate(absl::StrCat("I1: vCPU ", i, "'s phase has changed", About(host, record)));
    const auto gained =
        static_cast<int64_t>(GuestTsc(host, *vmm, i, vmm->written_at_ps) - truth.captured[i]);
    if (gained < 0)
      context_.Violate(
          absl::StrCat("I2: vCPU ", i, " went back by ", -gained, " ticks", About(host, record)));
    if (!answer.has_error_bound()) continue;
    const auto error = static_cast<int64_t>(GuestTsc(host, *vmm, i, reference_ps) -
                                            GuestTsc(*truth.host, there, i, reference_ps));
    const int64_t error_ns =
        static_cast<int64_t>(static_cast<__int128>(error) * 1'000'000 / truth.guest_khz);
    if (std::abs(error_ns) > static_cast<int64_t>(answer.error_bound().total_ns()))
      context_.Violate(absl::StrCat("I4: guest time is wrong by ", error_ns, " ns, the bound is ",
                                    answer.error_bound().total_ns(), About(host, record)));
  }
}

void Checker::Undone(Host& host, const HandoffRecord& record) {
  const VmmPtr vmm = VmmOf(host, record);
  if (vmm == nullptr || !vmm->before.has_value()) return;
  // One that has nothing in the VM any more may be aborted while another one works on it.
  if (vmm->before_of != record.ticket.handoff_id) return;
  if (vmm->offsets != *vmm->before)
    context_.Violate(absl::StrCat("I3: the VM does not have what it had", About(host, record)));
  vmm->before.reset();
  if (record.state == State::kAborted) context_.Count(Fact::kRestored);
}

void Checker::Arrived(Host& host, const HandoffRecord& record) {
  context_.Count(Fact::kCommitted);
  const VmmPtr vmm = VmmOf(host, record);
  if (vmm == nullptr) {
    dead_.insert(record.vm_id);  // in this moment
    return;
  }
  vmm->before.reset();
  const auto applied = applied_.find(record.ticket.handoff_id);
  if (applied != applied_.end() && applied->second != vmm->offsets)
    context_.Violate(absl::StrCat("I3: the VM does not have what arrived", About(host, record)));
}

void Checker::Loaded(const Host& host, const journal::Contents& contents) {
  std::set<Key> seen;
  for (const HandoffRecord& record : contents.handoffs) {
    const Key key{host.number(), record.ticket.handoff_id, record.side};
    seen.insert(key);
    const auto noted = noted_.find(key);
    if (noted == noted_.end() || noted->second != record.state) {
      const auto doubt = in_doubt_.find(key);
      const bool explained = doubt != in_doubt_.end() &&
                             std::find(doubt->second.begin(), doubt->second.end(), record.state) !=
                                 doubt->second.end();
      if (!explained)
        context_.Violate(absl::StrCat(
            "I6: after a crash it is ", NameOf(record.state), ", and was ",
            noted == noted_.end() ? "nothing" : NameOf(noted->second), About(host, record)));
      context_.Count(Fact::kCrashedUntold);
      if (record.state == State::kCaptured) {
        context_.Count(Fact::kHandoff);
        Highest& highest = highest_[{host.number(), record.vm_id}];
        if (record.ticket.epoch > highest.epoch)
          highest = {record.ticket.epoch, record.ticket.handoff_id};
        // Nobody has heard of it, so the VM is as it was captured.
        const VmmPtr vmm = host.FindVmm(record.vm_id);
        v1::GetTscStateResponse answer;
        if (vmm != nullptr && answer.ParseFromString(record.answer)) {
          if (auto state = state::Decode(answer.state()); state.ok()) {
            Truth& truth = truths_[record.ticket.handoff_id];
            truth = {const_cast<Host*>(&host), vmm->guest_khz, vmm->offsets, {}};
            for (const time::VcpuTsc& vcpu : state->vcpus)
              truth.captured.push_back(vcpu.guest_tsc_ticks);
          }
        }
      } else if (record.state == State::kApplying) {
        Begun(const_cast<Host&>(host), record);
      } else if (record.state == State::kApplied) {
        Applied(const_cast<Host&>(host), record);
      } else if (record.state == State::kActive) {
        Arrived(const_cast<Host&>(host), record);
      } else if (record.state == State::kEmpty || record.restored) {
        Undone(const_cast<Host&>(host), record);
      }
      noted_[key] = record.state;
    }
    Tell(host, record);
    if (record.state == State::kApplying) applying_at_start_.insert(key);
  }
  for (const auto& [key, state] : noted_) {
    if (key.host == host.number() && seen.count(key) == 0)
      context_.Violate(absl::StrCat("I6: after a crash host ", host.name(),
                                    " has forgotten handoff ", key.handoff_id, ", which was ",
                                    NameOf(state)));
  }
  for (const auto& [key, highest] : highest_) {
    if (key.first != host.number()) continue;
    const auto vm = std::find_if(contents.vms.begin(), contents.vms.end(),
                                 [&](const auto& record) { return record.vm_id == key.second; });
    if (vm == contents.vms.end() || vm->highest_epoch < highest.epoch)
      context_.Violate(
          absl::StrCat("I6: after a crash host ", host.name(), " has forgotten an epoch"));
  }
  std::erase_if(in_doubt_, [&](const auto& entry) { return entry.first.host == host.number(); });
}

void Checker::Forgotten(const Host& host, const std::string& handoff_id, Side side) {
  noted_.erase({host.number(), handoff_id, side});
  context_.Count(Fact::kForgotten);
}

void Checker::Answered(const Host& host, const v1::GetTscStateRequest& request,
                       const v1::GetTscStateResponse& response) {
  std::string bytes = response.SerializeAsString();
  const auto [found, first] =
      captures_.try_emplace(absl::StrCat(host.number(), request.SerializeAsString()), bytes);
  if (first) return;
  context_.Count(Fact::kRepeated);
  if (found->second != bytes)
    context_.Violate(
        absl::StrCat("I5: GetTscState of handoff ", request.handoff_id(), " has two answers"));
}

void Checker::Answered(const Host&, const std::string& handoff_id,
                       const v1::SetTscStateRequest& request,
                       const v1::SetTscStateResponse& response) {
  std::string bytes = response.SerializeAsString();
  const auto [found, first] =
      applies_.try_emplace({handoff_id, request.SerializeAsString()}, bytes);
  if (first) return;
  context_.Count(Fact::kRepeated);
  if (found->second != bytes)
    context_.Violate(absl::StrCat("I5: SetTscState of handoff ", handoff_id, " has two answers"));
}

void Checker::Paused(const Host& host, const Vmm& vmm) {
  std::vector<uint64_t>& guest = paused_at_[vmm.vm_id];
  guest.clear();
  for (size_t i = 0; i < vmm.offsets.size(); ++i)
    guest.push_back(GuestTsc(host, vmm, i, context_.world().now_ps()));
}

void Checker::Resumed(const Host& host, const Vmm& vmm) {
  const auto found = paused_at_.find(vmm.vm_id);
  if (found == paused_at_.end()) return;
  for (size_t i = 0; i < vmm.offsets.size(); ++i) {
    const auto gained =
        static_cast<int64_t>(GuestTsc(host, vmm, i, context_.world().now_ps()) - found->second[i]);
    if (gained < 0)
      context_.Violate(absl::StrCat("I2: VM ", vmm.vm_id, " sees vCPU ", i, " go back by ", -gained,
                                    " ticks on host ", host.name()));
  }
}

void Checker::CheckOwners() {
  for (const Host* host : hosts_) {
    for (const auto& [vm_id, vmm] : host->vmms()) {
      if (!vmm->Holds()) continue;
      for (const Host* other : hosts_) {
        if (other->number() <= host->number()) continue;
        const VmmPtr second = other->FindVmm(vm_id);
        if (second != nullptr && second->Holds())
          context_.Violate(absl::StrCat("I5: VM ", vm_id, " may run on host ", host->name(),
                                        " and on host ", other->name()));
      }
    }
  }
}

void Checker::CheckEnd() {
  for (const auto& [handoff_id, told] : told_) {
    if (!told.Ended() && !Dead(told.vm_id))
      context_.Violate(absl::StrCat("handoff ", handoff_id, " of VM ", told.vm_id,
                                    " is not ended: nobody could go on"));
  }
}

}  // namespace tsc_handoff::simulate
