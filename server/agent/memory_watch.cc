#include "server/agent/memory_watch.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

namespace tsc_handoff::agent {
namespace {

constexpr std::chrono::seconds kInterval(2);
// Less is soon used again.
constexpr int64_t kMuchBytes = 4 << 20;
constexpr int kTrimBytes = 128 << 10;  // glibc's own, before it raises it

// 0 where the kernel does not say.
int64_t ResidentBytes() {
  int64_t size_pages = 0;
  int64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> size_pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

// Resident without being in use: what was freed and not given back, and what is no heap. The
// allocator's own number of free bytes (fordblks) has in it what was given back, too.
int64_t IdleBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return ResidentBytes() - static_cast<int64_t>(heap.uordblks + heap.hblkhd);
}

}  // namespace

FreeMemory::FreeMemory() : smallest_bytes_(IdleBytes()) {}

bool FreeMemory::Return() {
  const int64_t idle_bytes = IdleBytes();
  smallest_bytes_ = std::min(smallest_bytes_, idle_bytes);
  if (idle_bytes - smallest_bytes_ < kMuchBytes) return false;
  (void)malloc_trim(0);
  smallest_bytes_ = IdleBytes();  // the rest lies among what is in use
  return true;
}

MemoryWatch::MemoryWatch() {
  // The end of a thread's arena is given back at free() alone, malloc_trim leaves it; from this
  // size on, which glibc would raise to some MiB by itself once a large piece was freed.
  (void)mallopt(M_TRIM_THRESHOLD, kTrimBytes);
  thread_ = std::thread([this] { Watch(); });
}

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
