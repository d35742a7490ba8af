#include "server/attach/wake_timer.h"

#include <errno.h>
#include <poll.h>

#include "gtest/gtest.h"

namespace tsc_handoff::attach {
namespace {

TEST(WakeTimer, InterruptsACallWithoutLimitAgainAndAgain) {
  WakeTimer timer;
  ASSERT_TRUE(timer.usable());
  timer.Start(absl::Milliseconds(2));
  for (int times = 0; times < 3; ++times) {
    EXPECT_EQ(poll(nullptr, 0, -1), -1);
    EXPECT_EQ(errno, EINTR);
  }
}

TEST(WakeTimer, InterruptsNothingOnceItIsStopped) {
  WakeTimer timer;
  timer.Start(absl::Milliseconds(1));
  EXPECT_EQ(poll(nullptr, 0, -1), -1);
  timer.Stop();
  EXPECT_EQ(poll(nullptr, 0, 20), 0);
}

TEST(WakeTimer, WorksWhereItsSignalWasBlocked) {
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, WakeSignal());
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &wake, nullptr), 0);
  WakeTimer timer;
  timer.Start(absl::Milliseconds(1));
  EXPECT_EQ(poll(nullptr, 0, -1), -1);
}

}  // namespace
}  // namespace tsc_handoff::attach
