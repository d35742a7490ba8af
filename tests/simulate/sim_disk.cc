#include "tests/simulate/sim_disk.h"

#include <algorithm>

namespace tsc_handoff::simulate {

using journal::Change;
using journal::HandoffRecord;
using journal::VmRecord;

void SimDisk::Keep(const Change& change) {
  if (change.handoff.has_value()) {
    const HandoffRecord& record = *change.handoff;
    const auto same = [&](const HandoffRecord& other) {
      return other.side == record.side && other.ticket.handoff_id == record.ticket.handoff_id;
    };
    auto& all = contents_.handoffs;
    // A record that changes was begun lately.
    const auto found = std::find_if(all.rbegin(), all.rend(), same);
    if (found == all.rend()) {
      all.push_back(record);
    } else {
      *found = record;
    }
  }
  if (change.vm.has_value()) {
    const auto at =
        std::lower_bound(contents_.vms.begin(), contents_.vms.end(), *change.vm,
                         [](const VmRecord& a, const VmRecord& b) { return a.vm_id < b.vm_id; });
    if (at != contents_.vms.end() && at->vm_id == change.vm->vm_id) {
      *at = *change.vm;
    } else {
      contents_.vms.insert(at, *change.vm);
    }
  }
}

void SimDisk::Sync() {
  for (const Change& change : unsynced_) Keep(change);
  unsynced_.clear();
}

size_t SimDisk::Crash(clock_sim::Random& random) {
  size_t torn = 0;
  while (!unsynced_.empty()) {
    if (random.Percent(50)) break;
    Keep(unsynced_.front());
    unsynced_.pop_front();
  }
  torn = unsynced_.size();
  unsynced_.clear();
  return torn;
}

void SimDisk::Forget(const std::string& handoff_id, journal::Side side) {
  std::erase_if(contents_.handoffs, [&](const HandoffRecord& record) {
    return record.side == side && record.ticket.handoff_id == handoff_id;
  });
}

}  // namespace tsc_handoff::simulate
