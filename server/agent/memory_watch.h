// MemoryWatch: gives memory that was freed back to the kernel when it is much, which the allocator
// by itself would keep for ever: an agent that was flooded once is to be as small afterwards as
// before.
//
// Threading: has a thread of its own, from construction to destruction.
#ifndef TSC_HANDOFF_SERVER_AGENT_MEMORY_WATCH_H_
#define TSC_HANDOFF_SERVER_AGENT_MEMORY_WATCH_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace tsc_handoff::agent {

// What this process has freed. One thread.
class FreeMemory {
 public:
  FreeMemory();

  // Gives it back; false, and it does nothing, unless it has become much since it was least after
  // the last time. Others may have to wait for memory meanwhile, for some ms at most.
  bool Return();

 private:
  int64_t smallest_bytes_;  // resident and not in use, since the last time
};

// Sets how the allocator of this process trims, too.
class MemoryWatch {
 public:
  MemoryWatch();
  ~MemoryWatch();
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

 private:
  void Watch();

  FreeMemory free_memory_;  // of the thread
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_MEMORY_WATCH_H_
