#include "server/agent/memory_watch.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>

namespace tsc_handoff::agent {
namespace {

constexpr std::chrono::seconds kInterval(10);
// Less is soon used again.
constexpr size_t kMuchBytes = 8 << 20;

}  // namespace

bool FreeMemory::Return() {
  const size_t free_bytes = mallinfo2().fordblks;
  returned_bytes_ = std::min(returned_bytes_, free_bytes);
  if (free_bytes - returned_bytes_ < kMuchBytes) return false;
  (void)malloc_trim(0);
  returned_bytes_ = mallinfo2().fordblks;
  return true;
}

MemoryWatch::MemoryWatch() : thread_([this] { Watch(); }) {}

MemoryWatch::~MemoryWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MemoryWatch::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    lock.unlock();
    (void)free_memory_.Return();
    lock.lock();
  }
}

}  // namespace tsc_handoff::agent
