// HandoffTable: what the journal holds, in memory, for looking up. Holds only what is durable.
//
// Threading: thread-safe. Records are immutable; a change puts a new one in the place of the old.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_TABLE_H_
#define TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/journal/journal.h"

namespace tsc_handoff::handoff {

struct TableEntry {
  std::shared_ptr<const journal::HandoffRecord> record;
  uint64_t ordinal = 0;     // in the order in which they were begun
  int64_t heard_at_ns = 0;  // CLOCK_MONOTONIC when somebody last asked about it
};

class HandoffTable {
 public:
  using RecordPtr = std::shared_ptr<const journal::HandoffRecord>;
  using Filter = std::function<bool(const TableEntry&)>;

  // REQUIRES: empty.
  void Load(journal::Contents contents, int64_t now_ns);

  // Null when there is none.
  RecordPtr Find(const std::string& handoff_id, journal::Side side) const;
  // The VM's record; one without any standing when it was never handed off.
  journal::VmRecord FindVm(const std::string& vm_id) const;
  // The handoff whose VM this is while its TSCs are spoken for (OccupiesVm); null otherwise.
  RecordPtr OccupantOf(const std::string& vm_id) const;

  // Records: both sides of each handoff that is known, finished or not.
  size_t size() const;

  void Put(const journal::Change& change, int64_t now_ns);
  // Somebody asked about it.
  void Touch(const std::string& handoff_id, journal::Side side, int64_t now_ns);
  // A record that the journal has dropped.
  void Erase(const std::string& handoff_id, journal::Side side);

  // At most `limit` that pass, those begun last first, begun before `before` (0: from the last).
  std::vector<TableEntry> List(uint64_t before, size_t limit, const Filter& filter) const;
  // All that are open: pending, or aborted and not restored; those begun last first. They are few,
  // however long the journal is.
  std::vector<TableEntry> ListOpen() const;

 private:
  using Key = std::pair<std::string, journal::Side>;

  void PutLocked(RecordPtr record, int64_t now_ns);

  mutable std::mutex mutex_;  // guards all
  uint64_t last_ordinal_ = 0;
  std::map<Key, TableEntry> entries_;
  std::map<uint64_t, Key> by_ordinal_;
  std::set<uint64_t> open_;               // ordinals
  std::map<std::string, Key> occupants_;  // by vm_id
  std::map<std::string, journal::VmRecord> vms_;
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_HANDOFF_TABLE_H_
