#include "server/agent/memory_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <vector>

namespace tsc_handoff::agent {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

size_t ResidentBytes() {
  size_t ignored = 0;
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> ignored >> pages;
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(FreeMemory, GivesBackWhatTheAllocatorKeeps) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's allocator is not the C library's";
#endif
  const size_t before = ResidentBytes();
  FreeMemory free_memory;
  (void)free_memory.Return();
  // Small pieces of the heap, and one behind them that stays, so that it cannot shrink by itself.
  std::vector<std::unique_ptr<std::vector<char>>> behind;
  for (int burst = 1; burst <= 3; ++burst) {
    std::vector<std::vector<char>> pieces(16'000, std::vector<char>(4000, 'x'));
    behind.push_back(std::make_unique<std::vector<char>>(4000, 'y'));
    pieces.clear();
    ASSERT_GT(ResidentBytes(), before + 32 * kMiB) << "it is kept";
    EXPECT_TRUE(free_memory.Return()) << burst;
    EXPECT_LT(ResidentBytes(), before + 16 * kMiB);
    EXPECT_FALSE(free_memory.Return()) << "nothing was freed since";
  }
}

TEST(FreeMemory, GivesBackWhatAFloodLeavesThoughItWasAskedAmidTheFlood) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's allocator is not the C library's";
#endif
  const size_t before = ResidentBytes();
  FreeMemory free_memory;
  std::vector<std::vector<char>> freed_soon(8'000, std::vector<char>(4000, 'x'));
  std::vector<std::vector<char>> freed_late(4'000, std::vector<char>(4000, 'x'));
  const auto behind = std::make_unique<std::vector<char>>(4000, 'y');
  freed_soon.clear();
  EXPECT_TRUE(free_memory.Return());
  freed_late.clear();
  EXPECT_TRUE(free_memory.Return());
  EXPECT_LT(ResidentBytes(), before + 8 * kMiB);
}

}  // namespace
}  // namespace tsc_handoff::agent
