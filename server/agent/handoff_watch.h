// HandoffWatch: once a second settles what is left to be settled of the handoffs on this host, and
// says which are undecided: logs each once, and tells how many there are. Once an hour has the
// journal drop what nobody needs any more.
//
// Threading: one thread of its own, which calls `on_undecided`.
#ifndef TSC_HANDOFF_SERVER_AGENT_HANDOFF_WATCH_H_
#define TSC_HANDOFF_SERVER_AGENT_HANDOFF_WATCH_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "server/handoff/handoff_controller.h"

namespace tsc_handoff::agent {

class HandoffWatch {
 public:
  // Calls on_undecided(how many) after each look. What ended is kept for `keep_ns` at least.
  // `handoffs` outlives this.
  HandoffWatch(handoff::HandoffController& handoffs, int64_t keep_ns,
               std::function<void(size_t)> on_undecided);
  ~HandoffWatch();
  HandoffWatch(const HandoffWatch&) = delete;
  HandoffWatch& operator=(const HandoffWatch&) = delete;

 private:
  void Look();
  void Compact();
  void Watch();

  handoff::HandoffController& handoffs_;
  const int64_t keep_ns_;
  const std::function<void(size_t)> on_undecided_;
  // The watch's thread's own.
  std::chrono::steady_clock::time_point compact_at_;
  std::set<std::string> reported_;  // handoff ids

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_HANDOFF_WATCH_H_
