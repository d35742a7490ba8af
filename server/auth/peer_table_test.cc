#include "server/auth/peer_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <vector>

namespace tsc_handoff::auth {
namespace {

using Time = PeerTable::Clock::time_point;

Identity User(uint32_t uid) {
  Identity identity;
  identity.kind = Identity::Kind::kUnix;
  identity.uid = uid;
  return identity;
}

class PeerTableTest : public testing::Test {
 protected:
  static constexpr int kFirst = 700;
  static constexpr int kEnd = 704;  // four numbers

  absl::StatusOr<UniqueFd> Admit(uint32_t uid) {
    return table_.Admit(socket_.get(), User(uid), now_);
  }

  UniqueFd socket_{eventfd(0, EFD_CLOEXEC)};
  PeerTable table_{kFirst, kEnd};
  Time now_{};
};

TEST_F(PeerTableTest, ANumberStandsForWhoeverHasIt) {
  const auto first = Admit(7);
  const auto second = Admit(8);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->get(), kFirst);
  EXPECT_EQ(second->get(), kFirst + 1);
  EXPECT_NE(fcntl(first->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(table_.Find(first->get())->uid, 7u);
  EXPECT_EQ(table_.Find(second->get())->uid, 8u);
  EXPECT_EQ(table_.Find(kFirst + 2), nullptr);
}

TEST_F(PeerTableTest, ANumberIsNotAnothersBeforeItHasRested) {
  for (uint32_t uid = 1; uid <= 4; ++uid) {
    auto fd = Admit(uid);
    ASSERT_TRUE(fd.ok()) << fd.status();
    const int number = fd->get();
    table_.Ended(number, now_);
    *fd = UniqueFd();
    EXPECT_EQ(table_.Find(number)->uid, uid) << "a late call is still his";
  }
  EXPECT_FALSE(Admit(5).ok());
  now_ += PeerTable::kRest - std::chrono::nanoseconds(1);
  EXPECT_EQ(Admit(5).status().code(), absl::StatusCode::kResourceExhausted);
  now_ += std::chrono::nanoseconds(1);
  const auto again = Admit(5);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(table_.Find(again->get())->uid, 5u);
}

TEST_F(PeerTableTest, AnEndThatWasNotSeenKeepsTheNumber) {
  for (uint32_t uid = 1; uid <= 4; ++uid) ASSERT_TRUE(Admit(uid).ok());  // closed at once
  now_ += std::chrono::hours(1);
  EXPECT_FALSE(Admit(5).ok());
}

TEST_F(PeerTableTest, NumbersInUseByOthersArePassedOver) {
  const UniqueFd other(fcntl(socket_.get(), F_DUPFD_CLOEXEC, kFirst));
  ASSERT_EQ(other.get(), kFirst);
  std::vector<UniqueFd> held;
  for (uint32_t uid = 1; uid <= 3; ++uid) {
    auto fd = Admit(uid);
    ASSERT_TRUE(fd.ok()) << fd.status();
    EXPECT_EQ(fd->get(), kFirst + static_cast<int>(uid));
    held.push_back(*std::move(fd));
  }
  EXPECT_FALSE(Admit(4).ok()) << "none is left below the end";
  EXPECT_EQ(table_.Find(kEnd), nullptr);
}

TEST_F(PeerTableTest, ByDefaultNumbersAreFarFromThoseThatOthersGet) {
  PeerTable table;
  const auto fd = table.Admit(socket_.get(), User(1), now_);
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_GE(fd->get(), 256);
}

}  // namespace
}  // namespace tsc_handoff::auth
