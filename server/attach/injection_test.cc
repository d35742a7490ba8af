// An injection into threads that do all kinds of things: none of them may notice.
#include "server/attach/injection.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/attach/job.h"
#include "server/attach/testing/call_job.h"
#include "server/attach/testing/child.h"
#include "server/attach/testing/inject.h"
#include "server/base/error.h"

namespace tsc_handoff::attach {
namespace {

const std::vector<attach_call> kGetIds = {
    {.number = SYS_getpid, .args = {}, .relative = 0, .result = 0},
    {.number = SYS_gettid, .args = {}, .relative = 0, .result = 0}};

class EveryWork : public testing::TestWithParam<std::string> {};

TEST_P(EveryWork, GoesOnAsIfNothingHadHappened) {
  Child child(AllWork().at(GetParam()));
  const std::string before = Fingerprint(child.pid());
  for (int i = 0; i < 25; ++i) {
    auto result = Inject(child.pid(), child.pid(), CallJob(kGetIds));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(ResultOf(result->job, 0), child.pid());
    EXPECT_EQ(ResultOf(result->job, 1), child.pid());
    EXPECT_EQ(HeadOf(result->job).done, 1u);
    EXPECT_FALSE(result->cancelled);
  }
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  EXPECT_EQ(child.Finish(), "");
}

INSTANTIATE_TEST_SUITE_P(Work, EveryWork, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, work] : AllWork()) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& work) { return work.param; });

TEST(Injection, FiveHundredCyclesLeaveNothingBehind) {
  Child child(AllWork().at("CountingSignals"));
  const std::string before = Fingerprint(child.pid());
  const std::string own_before = Descriptors(getpid());
  uint64_t sent = 0;
  std::vector<int64_t> stops_us;
  for (int i = 0; i < 500; ++i) {
    if (i % 2 == 0) {
      ASSERT_EQ(sigqueue(child.pid(), SIGRTMIN + 1, sigval{}), 0);
      ++sent;
    }
    auto result = Inject(child.pid(), child.pid(), CallJob(kGetIds));
    ASSERT_TRUE(result.ok()) << i << ": " << result.status();
    stops_us.push_back(absl::ToInt64Microseconds(result->stopped_for));
    ASSERT_EQ(ResultOf(result->job, 0), child.pid());
  }
#ifndef __SANITIZE_THREAD__  // which keeps one signal of a kind, while it delays it
  EXPECT_TRUE(WaitFor([&] { return child.state().signals == sent; })) << child.state().signals;
#endif
  EXPECT_GT(child.state().rounds, 0u);
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  EXPECT_EQ(Descriptors(getpid()), own_before);
  std::sort(stops_us.begin(), stops_us.end());
  printf("stopped for: median %ld us, 99 %% %ld us\n", static_cast<long>(stops_us[250]),
         static_cast<long>(stops_us[495]));
  EXPECT_EQ(child.Finish(), "");
}

TEST(Injection, ArgumentsMayPointIntoTheJob) {
  Child child(AllWork().at("Poll"));
  // clock_gettime(CLOCK_MONOTONIC, behind the call)
  std::vector<attach_call> calls = {
      {.number = SYS_clock_gettime, .args = {}, .relative = 2, .result = 1}};
  calls[0].args[0] = CLOCK_MONOTONIC;
  calls[0].args[1] = sizeof(attach_job) + sizeof(attach_call);
  auto result = Inject(child.pid(), child.pid(), CallJob(calls, sizeof(timespec)));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ResultOf(result->job, 0), 0);
  timespec time;
  memcpy(&time, result->job.data() + calls[0].args[1], sizeof(time));
  EXPECT_GT(time.tv_sec, 0);
  EXPECT_EQ(child.Finish(), "");
}

TEST(Injection, AFailingCallSaysItsError) {
  Child child(AllWork().at("Poll"));
  auto result =
      Inject(child.pid(), child.pid(),
             CallJob({{.number = SYS_close, .args = {9999}, .relative = 0, .result = 0}}));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ResultOf(result->job, 0), -EBADF);
  EXPECT_EQ(child.Finish(), "");
}

// Waits in read(2) from a pipe that nobody writes to yet.
struct HangingRead {
  HangingRead() : opened(pipe(ends)) {}
  ~HangingRead() {
    close(ends[0]);
    close(ends[1]);
  }
  std::vector<std::byte> Job() const {
    std::vector<attach_call> calls = {
        {.number = SYS_read, .args = {}, .relative = 2, .result = 0},
        {.number = SYS_getpid, .args = {}, .relative = 0, .result = -7}};
    calls[0].args[0] = static_cast<uint64_t>(ends[0]);
    calls[0].args[1] = sizeof(attach_job) + 2 * sizeof(attach_call);
    calls[0].args[2] = 1;
    return CallJob(calls, 8);
  }
  void Release() { ASSERT_EQ(write(ends[1], "x", 1), 1); }
  int ends[2] = {-1, -1};
  int opened;
};

TEST(Injection, AJobThatHangsIsCancelledAndFreed) {
  HangingRead hanging;
  Child child(AllWork().at("Ppoll"));
  const std::string before = Fingerprint(child.pid());
  InjectionOptions options = Patient();
  options.hang_after = absl::Milliseconds(20);
  int freed = 0;
  options.on_hang = [&] {
    ++freed;
    hanging.Release();
  };
  auto result = Inject(child.pid(), child.pid(), hanging.Job(), options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->cancelled);
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(ResultOf(result->job, 0), 1);
  EXPECT_EQ(ResultOf(result->job, 1), -7) << "a call after the cancellation";
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  EXPECT_TRUE(child.Finish().find("after") != std::string::npos || child.state().rounds > 0);
}

TEST(Injection, AJobThatHangsForGoodIsLeftToItselfAndEndsByItself) {
  HangingRead hanging;
  Child child(AllWork().at("PpollForever"));
  const std::string before = Fingerprint(child.pid());
  InjectionOptions options = Patient();
  options.hang_after = absl::Milliseconds(5);
  options.timeout = absl::Milliseconds(50);
  auto result = Inject(child.pid(), child.pid(), hanging.Job(), options);
  EXPECT_EQ(ReasonOf(result.status()), Reason::kVmRunning) << result.status();
  EXPECT_NE(Fingerprint(child.pid()), before);
  hanging.Release();
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  // And may be attached to again.
  auto again = Inject(child.pid(), child.pid(), CallJob(kGetIds));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(child.Finish(), "");
}

TEST(Injection, AnyThreadOfAProcessWillDo) {
  Child child(AllWork().at("ManyThreads"));
  auto target = Target::Open(child.pid());
  ASSERT_TRUE(target.ok());
  auto threads = target->List("task");
  ASSERT_TRUE(threads.ok());
  ASSERT_GE(threads->size(), 25u);  // and a sanitizer's own
  const std::string before = Fingerprint(child.pid());
  for (int tid : *threads) {
    auto result = Inject(child.pid(), tid, CallJob(kGetIds));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(ResultOf(result->job, 0), child.pid());
    EXPECT_EQ(ResultOf(result->job, 1), tid);
  }
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  EXPECT_EQ(child.Finish(), "");
}

TEST(Injection, AStoppedProcessStaysStopped) {
  Child child(AllWork().at("PpollForever"));
  ASSERT_EQ(kill(child.pid(), SIGSTOP), 0);
  const auto state = [&] {
    auto target = Target::Open(child.pid());
    auto text = target.ok() ? target->Read("status") : target.status();
    return text.ok() ? text->substr(text->find("State:") + 7, 1) : "?";
  };
  ASSERT_TRUE(WaitFor([&] { return state() == "T"; }));
  auto result = Inject(child.pid(), child.pid(), CallJob(kGetIds));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(WaitFor([&] { return state() == "T"; })) << state();
  ASSERT_EQ(kill(child.pid(), SIGCONT), 0);
  EXPECT_EQ(child.Finish(), "");
}

}  // namespace
}  // namespace tsc_handoff::attach
