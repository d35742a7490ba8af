// SimDisk: what outlives a simulated agent. It keeps exactly what was synced; of what was written
// and not synced a crash keeps some beginning, and tears the rest off.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_SIM_DISK_H_
#define TSC_HANDOFF_TESTS_SIMULATE_SIM_DISK_H_

#include <deque>
#include <string>

#include "server/journal/journal.h"
#include "tests/clock_sim/random.h"

namespace tsc_handoff::simulate {

class SimDisk {
 public:
  explicit SimDisk(std::string agent_id) : agent_id_(std::move(agent_id)) {}

  const std::string& agent_id() const { return agent_id_; }
  const journal::Contents& contents() const { return contents_; }

  void Write(const journal::Change& change) { unsynced_.push_back(change); }
  // Makes all that was written durable.
  void Sync();
  // The machine goes on, the file holds what reached the disk. Returns how many changes were torn
  // off.
  size_t Crash(clock_sim::Random& random);
  // Compaction: the record is old.
  void Forget(const std::string& handoff_id, journal::Side side);

 private:
  void Keep(const journal::Change& change);

  const std::string agent_id_;
  journal::Contents contents_;  // what was synced
  std::deque<journal::Change> unsynced_;
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_SIM_DISK_H_
