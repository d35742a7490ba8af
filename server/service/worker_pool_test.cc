#include "server/service/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace tsc_handoff::service {
namespace {

using testing::ElementsAre;

constexpr WorkerPool::Limits kLimits = {
    .threads = 4, .threads_of_one = 3, .queued = 10, .queued_of_one = 6};

// Works that run until they are let go, as those do that wait for a VM that does not answer.
class Gate {
 public:
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void AwaitArrived(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }
  int arrived() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return arrived_;
  }
  void Open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  bool open_ = false;
};

TEST(WorkerPool, OneCallersBlockedWorksLeaveThreadsToOthers) {
  Gate slow, other;
  other.Open();
  WorkerPool pool(kLimits);
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(pool.Run("slow", [&] { slow.Pass(); }));
  slow.AwaitArrived(3);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(pool.Run("other", [&] { other.Pass(); }));
  other.AwaitArrived(5);
  EXPECT_EQ(slow.arrived(), 3);
  slow.Open();
  slow.AwaitArrived(6);
}

TEST(WorkerPool, OneCallerDoesNotFillTheQueue) {
  Gate gate;
  WorkerPool pool(kLimits);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(pool.Run("slow", [&] { gate.Pass(); }));
  gate.AwaitArrived(3);
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(pool.Run("slow", [&] { gate.Pass(); }));
  EXPECT_FALSE(pool.Run("slow", [&] { gate.Pass(); }));
  ASSERT_TRUE(pool.Run("other", [&] { gate.Pass(); }));
  gate.AwaitArrived(4);  // "other" has the last thread
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(pool.Run("third", [&] { gate.Pass(); }));
  EXPECT_FALSE(pool.Run("third", [&] { gate.Pass(); })) << "ten wait";
  gate.Open();
}

TEST(WorkerPool, CallersTakeTurns) {
  Gate gate;
  std::vector<std::string> order;  // of one thread
  {
    WorkerPool pool({.threads = 1, .threads_of_one = 1, .queued = 10, .queued_of_one = 10});
    ASSERT_TRUE(pool.Run("first", [&] { gate.Pass(); }));
    gate.AwaitArrived(1);
    for (const char* const caller : {"many", "many", "many", "few"})
      ASSERT_TRUE(pool.Run(caller, [&order, caller] { order.emplace_back(caller); }));
    gate.Open();
  }
  EXPECT_THAT(order, ElementsAre("many", "few", "many", "many"));
}

TEST(WorkerPool, WhatIsQueuedRunsBeforeTheEnd) {
  std::atomic<int> ran{0};
  std::optional<WorkerPool> pool(kLimits);
  Gate gate;
  ASSERT_TRUE(pool->Run("a", [&] { gate.Pass(); }));
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(pool->Run(i % 2 == 0 ? "a" : "b", [&] { ++ran; }));
  gate.Open();
  pool.reset();
  EXPECT_EQ(ran, 6);
}

}  // namespace
}  // namespace tsc_handoff::service
