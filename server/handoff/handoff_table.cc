#include "server/handoff/handoff_table.h"

#include "server/handoff/handoff_machine.h"

namespace tsc_handoff::handoff {

using journal::HandoffRecord;
using journal::Side;
using journal::State;
using journal::VmRecord;

namespace {

bool IsOpen(const HandoffRecord& record) {
  if (IsPending(record.state)) return true;
  return record.side == Side::kDestination && record.state == State::kAborted && !record.restored;
}

}  // namespace

void HandoffTable::Load(journal::Contents contents, int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (HandoffRecord& record : contents.handoffs)
    PutLocked(std::make_shared<const HandoffRecord>(std::move(record)), now_ns);
  for (VmRecord& vm : contents.vms) vms_[vm.vm_id] = std::move(vm);
}

HandoffTable::RecordPtr HandoffTable::Find(const std::string& handoff_id, Side side) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find({handoff_id, side});
  return found == entries_.end() ? nullptr : found->second.record;
}

VmRecord HandoffTable::FindVm(const std::string& vm_id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = vms_.find(vm_id);
  if (found != vms_.end()) return found->second;
  VmRecord unknown;
  unknown.vm_id = vm_id;
  return unknown;
}

HandoffTable::RecordPtr HandoffTable::OccupantOf(const std::string& vm_id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = occupants_.find(vm_id);
  return found == occupants_.end() ? nullptr : entries_.at(found->second).record;
}

void HandoffTable::Put(const journal::Change& change, int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (change.handoff.has_value())
    PutLocked(std::make_shared<const HandoffRecord>(*change.handoff), now_ns);
  if (change.vm.has_value()) vms_[change.vm->vm_id] = *change.vm;
}

void HandoffTable::PutLocked(RecordPtr record, int64_t now_ns) {
  const Key key(record->ticket.handoff_id, record->side);
  TableEntry& entry = entries_[key];
  if (entry.record == nullptr) {
    entry.ordinal = ++last_ordinal_;
    by_ordinal_[entry.ordinal] = key;
  }
  entry.heard_at_ns = now_ns;
  if (IsOpen(*record)) {
    open_.insert(entry.ordinal);
  } else {
    open_.erase(entry.ordinal);
  }
  if (OccupiesVm(record->state)) {
    occupants_[record->vm_id] = key;
  } else if (const auto found = occupants_.find(record->vm_id);
             found != occupants_.end() && found->second == key) {
    occupants_.erase(found);
  }
  entry.record = std::move(record);
}

void HandoffTable::Touch(const std::string& handoff_id, Side side, int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find({handoff_id, side});
  if (found != entries_.end()) found->second.heard_at_ns = now_ns;
}

void HandoffTable::Erase(const std::string& handoff_id, Side side) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find({handoff_id, side});
  if (found == entries_.end() || IsOpen(*found->second.record)) return;
  by_ordinal_.erase(found->second.ordinal);
  entries_.erase(found);
}

std::vector<TableEntry> HandoffTable::ListOpen() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<TableEntry> found;
  for (auto it = open_.rbegin(); it != open_.rend(); ++it)
    found.push_back(entries_.at(by_ordinal_.at(*it)));
  return found;
}

size_t HandoffTable::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return entries_.size();
}

std::vector<TableEntry> HandoffTable::List(uint64_t before, size_t limit,
                                           const Filter& filter) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<TableEntry> found;
  auto it = before == 0 ? by_ordinal_.end() : by_ordinal_.lower_bound(before);
  while (it != by_ordinal_.begin() && found.size() < limit) {
    --it;
    const TableEntry& entry = entries_.at(it->second);
    if (filter(entry)) found.push_back(entry);
  }
  return found;
}

}  // namespace tsc_handoff::handoff
