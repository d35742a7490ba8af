// WorkerPool: runs the work of RPCs that may block on a VM (up to a second), so that gRPC's own
// threads never do. Nobody has all of it for himself: whoever calls for VMs that do not answer
// waits for these alone, and does not make others wait.
//
// Threading: Run may be called from any thread. The destructor finishes what is queued.
#ifndef TSC_HANDOFF_SERVER_SERVICE_WORKER_POOL_H_
#define TSC_HANDOFF_SERVER_SERVICE_WORKER_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tsc_handoff::service {

class WorkerPool {
 public:
  struct Limits {
    size_t threads = 1;
    size_t threads_of_one = 1;  // at least 1; of one caller's works, at once
    size_t queued = 1;          // works that wait
    size_t queued_of_one = 1;   // of one caller
  };

  explicit WorkerPool(const Limits& limits);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Queues `work` for `caller`, whose works begin in this order; callers take turns. False, and
  // nothing is done, when too many are waiting.
  bool Run(const std::string& caller, std::function<void()> work);

 private:
  // There is one as long as something of the caller's waits or runs.
  struct Lane {
    std::deque<std::function<void()>> waiting;
    size_t running = 0;
    bool has_turn = false;  // is in turns_
  };
  using Lanes = std::map<std::string, Lane>;

  void Serve();
  // Has the lane take a turn if it has something that may begin. Whether it has.
  bool TakeTurn(Lanes::iterator lane);

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Lanes lanes_;                       // guarded by mutex_
  std::list<Lanes::iterator> turns_;  // guarded by mutex_
  size_t queued_ = 0;                 // guarded by mutex_
  bool stopping_ = false;             // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_WORKER_POOL_H_
