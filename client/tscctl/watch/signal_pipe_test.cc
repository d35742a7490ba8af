#include "client/tscctl/watch/signal_pipe.h"

#include <gtest/gtest.h>
#include <poll.h>

namespace tsc_handoff::tscctl {
namespace {

TEST(SignalPipeTest, ASignalIsReadLater) {
  SignalPipe pipe({SIGUSR1, SIGUSR2});
  EXPECT_EQ(pipe.Take(), std::nullopt);
  raise(SIGUSR2);
  raise(SIGUSR1);
  pollfd ready = {.fd = pipe.fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&ready, 1, 0), 1);
  EXPECT_EQ(pipe.Take(), SIGUSR2);
  EXPECT_EQ(pipe.Take(), SIGUSR1);
  EXPECT_EQ(pipe.Take(), std::nullopt);
}

TEST(SignalPipeTest, AfterItSignalsMeanWhatTheyMeant) {
  signal(SIGUSR1, SIG_DFL);
  { const SignalPipe pipe({SIGUSR1}); }
  struct sigaction now = {};
  sigaction(SIGUSR1, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
}

TEST(SignalPipeTest, AnIgnoredSignalStaysIgnored) {
  signal(SIGUSR1, SIG_IGN);
  SignalPipe pipe({SIGUSR1});
  raise(SIGUSR1);
  EXPECT_EQ(pipe.Take(), std::nullopt);
  signal(SIGUSR1, SIG_DFL);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
