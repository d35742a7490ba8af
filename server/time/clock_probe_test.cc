#include "server/time/clock_probe.h"

#include <cstdlib>
#include <limits>
#include <random>

#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/time/ticks.h"

namespace tsc_handoff::time {
namespace {

constexpr uint32_t kLocalKhz = 2'600'000;
constexpr uint32_t kPeerKhz = 3'100'000;
constexpr uint32_t kPpm = 50;
constexpr int64_t kWall = 1'700'000'000'000'000'000;
constexpr int64_t kLocalWallError = 70'000;  // this host's clock is that much ahead of true time
constexpr uint64_t kLocalTsc = ~uint64_t{0} - 1'000'000;  // wraps during the probe
constexpr uint64_t kPeerTsc = 77;

// Readings at an instant of true time; both TSCs run at their nominal rates.
ClockStamp Local(int64_t true_ns) {
  return {kLocalTsc + NsToTicks(true_ns, kLocalKhz), kWall + true_ns + kLocalWallError, 30};
}
ClockStamp Peer(int64_t true_ns) {
  return {kPeerTsc + NsToTicks(true_ns, kPeerKhz), kWall + true_ns, 30};
}
ProbeRound Round(int64_t start_ns, int64_t there_ns, int64_t at_peer_ns, int64_t back_ns) {
  const int64_t end_ns = start_ns + there_ns + at_peer_ns + back_ns;
  return {Local(start_ns), Peer(start_ns + there_ns), Peer(start_ns + there_ns + at_peer_ns),
          Local(end_ns)};
}

// How far the peer's TSC really was, beyond the probe's peer_tsc_ticks, at the probe's local one.
int64_t TruthNs(const ClockProbe& probe) {
  const int64_t true_ns =
      TicksToNs(static_cast<int64_t>(probe.local_tsc_ticks - kLocalTsc), kLocalKhz);
  const uint64_t peer_ticks = kPeerTsc + NsToTicks(true_ns, kPeerKhz);
  return TicksToNs(static_cast<int64_t>(peer_ticks - probe.peer_tsc_ticks), kPeerKhz);
}

TEST(CombineRoundsTest, OneSymmetricRound) {
  const auto probe = CombineRounds({Round(0, 40'000, 5'000, 40'000)}, kLocalKhz, kPeerKhz, kPpm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->rounds, 1u);
  EXPECT_NEAR(static_cast<double>(probe->round_trip_ns), 80'000, 3);
  EXPECT_NEAR(static_cast<double>(probe->duration_ns), 85'000, 3);
  EXPECT_NEAR(static_cast<double>(probe->wall_offset_ns), kLocalWallError, 20);
  EXPECT_NEAR(static_cast<double>(probe->wall_offset_error_ns), 40'000 + 60, 20);
  EXPECT_LE(probe->lower_ns, TruthNs(*probe));
  EXPECT_GE(probe->upper_ns, TruthNs(*probe));
  EXPECT_NEAR(static_cast<double>(probe->upper_ns - probe->lower_ns), 80'000, 20);
}

TEST(CombineRoundsTest, TheBestEndsOfAllRoundsCount) {
  // One is quick on the way there, the other one on the way back.
  const auto probe =
      CombineRounds({Round(0, 1'000, 0, 900'000), Round(1'000'000, 900'000, 0, 1'000)}, kLocalKhz,
                    kPeerKhz, kPpm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_LT(probe->upper_ns - probe->lower_ns, 3'000);
  EXPECT_LE(probe->lower_ns, TruthNs(*probe));
  EXPECT_GE(probe->upper_ns, TruthNs(*probe));
}

TEST(CombineRoundsTest, HoldsTheTruthHoweverAsymmetricTheWaysAre) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 3'000; ++i) {
    std::vector<ProbeRound> rounds;
    int64_t now_ns = 0;
    for (int k = 0; k < 8; ++k) {
      const auto there_ns = static_cast<int64_t>(random() % (uint64_t{1} << (random() % 27)));
      const auto at_peer_ns = static_cast<int64_t>(random() % 100'000);
      const auto back_ns = static_cast<int64_t>(random() % (uint64_t{1} << (random() % 27)));
      rounds.push_back(Round(now_ns, there_ns, at_peer_ns, back_ns));
      now_ns += there_ns + at_peer_ns + back_ns + 1'000;
    }
    const auto probe = CombineRounds(rounds, kLocalKhz, kPeerKhz, kPpm);
    ASSERT_TRUE(probe.ok()) << probe.status();
    ASSERT_LE(probe->lower_ns, TruthNs(*probe)) << "case " << i;
    ASSERT_GE(probe->upper_ns, TruthNs(*probe)) << "case " << i;
    ASSERT_LE(std::abs(probe->wall_offset_ns - kLocalWallError), probe->wall_offset_error_ns);
  }
}

TEST(CombineRoundsTest, ARoundThatGoesBackwardsIsLeftOut) {
  ProbeRound backwards = Round(0, 40'000, 5'000, 40'000);
  std::swap(backwards.peer_received, backwards.peer_sent);
  const auto probe =
      CombineRounds({backwards, Round(100'000, 40'000, 0, 40'000)}, kLocalKhz, kPeerKhz, kPpm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->rounds, 1u);
  EXPECT_EQ(ReasonOf(CombineRounds({backwards}, kLocalKhz, kPeerKhz, kPpm).status()),
            Reason::kPeerUnreachable);
  EXPECT_EQ(ReasonOf(CombineRounds({}, kLocalKhz, kPeerKhz, kPpm).status()),
            Reason::kPeerUnreachable);
}

TEST(CombineRoundsTest, ATscThatJumpsBetweenRoundsIsNamed) {
  ProbeRound jumped = Round(100'000, 40'000, 0, 40'000);
  for (ClockStamp* stamp : {&jumped.peer_received, &jumped.peer_sent})
    stamp->host_tsc_ticks += NsToTicks(1'000'000, kPeerKhz);
  const absl::Status status =
      CombineRounds({Round(0, 40'000, 0, 40'000), jumped}, kLocalKhz, kPeerKhz, kPpm).status();
  EXPECT_EQ(ReasonOf(status), Reason::kClocksDisagree);
  EXPECT_NE(status.message().find("TSC jumped"), absl::string_view::npos) << status;
}

TEST(CombineRoundsTest, AWallClockThatMovesBetweenRoundsDoesNotMatterToTheTscs) {
  ProbeRound stepped = Round(100'000, 400'000, 0, 400'000);
  for (ClockStamp* stamp : {&stepped.peer_received, &stepped.peer_sent})
    stamp->realtime_ns += 3'600'000'000'000;
  const auto probe =
      CombineRounds({Round(0, 40'000, 0, 40'000), stepped}, kLocalKhz, kPeerKhz, kPpm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_LE(probe->lower_ns, TruthNs(*probe));
  EXPECT_GE(probe->upper_ns, TruthNs(*probe));
  EXPECT_NEAR(static_cast<double>(probe->wall_offset_ns), kLocalWallError, 50)
      << "of the round with the shortest ways";
}

TEST(CombineRoundsTest, APeerThatWasThereForLongerThanTheCallTookIsNamed) {
  ProbeRound impossible = Round(0, 40'000, 0, 40'000);
  impossible.peer_sent = Peer(500'000);
  EXPECT_EQ(ReasonOf(CombineRounds({impossible}, kLocalKhz, kPeerKhz, kPpm).status()),
            Reason::kClocksDisagree);
}

// A peer may answer anything: nothing may overflow (the sanitizer watches).
TEST(CombineRoundsTest, ExtremesDoNotOverflow) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  std::mt19937_64 random(6);
  const auto extreme = [&] {
    constexpr uint64_t kValues[] = {0, 1, uint64_t{1} << 63, (uint64_t{1} << 63) - 1, ~uint64_t{0}};
    return random() % 3 == 0 ? random() : kValues[random() % 5];
  };
  for (int i = 0; i < 5'000; ++i) {
    std::vector<ProbeRound> rounds;
    for (int k = 0; k < 3; ++k) {
      ProbeRound round = Round(k * 100'000, 40'000, 0, 40'000);
      for (ClockStamp* stamp : {&round.peer_received, &round.peer_sent})
        *stamp = {extreme(), static_cast<int64_t>(extreme() >> 1),
                  static_cast<int64_t>(extreme() >> 1)};
      rounds.push_back(round);
    }
    const auto probe =
        CombineRounds(rounds, kLocalKhz, 1 + static_cast<uint32_t>(random() % ~uint32_t{0}), kPpm);
    if (probe.ok()) {
      ASSERT_LE(probe->lower_ns, probe->upper_ns);
      ASSERT_LE(probe->wall_offset_error_ns, kMax);
      ASSERT_GE(probe->wall_offset_error_ns, 0);
    }
  }
}

}  // namespace
}  // namespace tsc_handoff::time
