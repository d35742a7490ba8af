// WorkerPool: runs the work of RPCs that may block on a VM (up to a second), so that gRPC's own
// threads never do.
//
// Threading: Run may be called from any thread. The destructor finishes what is queued.
#ifndef TSC_HANDOFF_SERVER_SERVICE_WORKER_POOL_H_
#define TSC_HANDOFF_SERVER_SERVICE_WORKER_POOL_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tsc_handoff::service {

class WorkerPool {
 public:
  WorkerPool(size_t threads, size_t max_queued);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Queues `work`; false, and nothing is done, when max_queued are waiting.
  bool Run(std::function<void()> work);

 private:
  void Serve();

  const size_t max_queued_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_WORKER_POOL_H_
