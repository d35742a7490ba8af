#include "server/agent/memory_watch.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

namespace tsc_handoff::agent {
namespace {

constexpr std::chrono::seconds kInterval(10);
// Less is soon used again.
constexpr size_t kMuchBytes = 8 << 20;

// 0 where the kernel does not say.
size_t ResidentBytes() {
  size_t size_pages = 0;
  size_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> size_pages >> resident_pages;
  return resident_pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

bool FreeMemory::Return() {
  const size_t resident_bytes = ResidentBytes();
  smallest_bytes_ = std::min(smallest_bytes_, resident_bytes);
  if (resident_bytes - smallest_bytes_ < kMuchBytes) return false;
  // What was given back before is counted here, too: it does not say what there is to give.
  if (mallinfo2().fordblks < kMuchBytes) return false;
  (void)malloc_trim(0);
  smallest_bytes_ = ResidentBytes();
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
