#include "client/tscctl/top/handoff_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SteadyTime At(int seconds) { return SteadyTime(std::chrono::seconds(1000 + seconds)); }

v1::Handoff Make(const std::string& id, v1::Handoff::State state, int64_t begun_at_ns = 1) {
  v1::Handoff handoff;
  handoff.set_handoff_id(id);
  handoff.set_side(v1::Handoff::SIDE_SOURCE);
  handoff.set_state(state);
  handoff.set_begun_at_ns(begun_at_ns);
  return handoff;
}

std::vector<std::string> Shown(HandoffBook& book, SteadyTime now) {
  std::vector<std::string> shown;
  for (const v1::Handoff& handoff : book.Show(now))
    shown.push_back(handoff.handoff_id() + " " + v1::Handoff::State_Name(handoff.state()));
  return shown;
}

TEST(HandoffBookTest, TheLastBegunComesFirst) {
  HandoffBook book;
  book.Note(Make("a", v1::Handoff::STATE_CAPTURED, 5), At(0));
  book.Note(Make("b", v1::Handoff::STATE_CAPTURED, 7), At(0));
  EXPECT_THAT(Shown(book, At(1)), ElementsAre("b STATE_CAPTURED", "a STATE_CAPTURED"));
}

TEST(HandoffBookTest, WhatHasEndedStaysForAMinute) {
  HandoffBook book;
  book.Note(Make("a", v1::Handoff::STATE_CAPTURED), At(0));
  book.Note(Make("a", v1::Handoff::STATE_RELEASED), At(1));
  EXPECT_THAT(Shown(book, At(61)), ElementsAre("a STATE_RELEASED"));
  EXPECT_THAT(Shown(book, At(62)), IsEmpty());
}

TEST(HandoffBookTest, AListBringsWhatWasNotHeardOf) {
  HandoffBook book;
  book.NotePending({Make("a", v1::Handoff::STATE_CAPTURED)}, At(0), At(1));
  EXPECT_THAT(Shown(book, At(1)), ElementsAre("a STATE_CAPTURED"));
}

TEST(HandoffBookTest, AListThatIsOlderThanAChangeTakesNothingBack) {
  HandoffBook book;
  book.Note(Make("a", v1::Handoff::STATE_CAPTURED), At(0));
  book.Note(Make("a", v1::Handoff::STATE_RELEASED), At(3));
  book.Note(Make("b", v1::Handoff::STATE_CAPTURED), At(3));
  book.NotePending({Make("a", v1::Handoff::STATE_CAPTURED)}, At(2), At(4));
  EXPECT_THAT(Shown(book, At(4)), ElementsAre("a STATE_RELEASED", "b STATE_CAPTURED"));
}

TEST(HandoffBookTest, WhatIsNotPendingAnyMoreGoesThoughItsEndWasNotHeard) {
  HandoffBook book;
  book.NotePending({Make("a", v1::Handoff::STATE_CAPTURED)}, At(0), At(1));
  book.NotePending({}, At(2), At(3));
  EXPECT_THAT(Shown(book, At(3)), IsEmpty());
}

TEST(HandoffBookTest, AListTellsThatNobodyGoesOn) {
  HandoffBook book;
  book.Note(Make("a", v1::Handoff::STATE_CAPTURED), At(0));
  v1::Handoff undecided = Make("a", v1::Handoff::STATE_CAPTURED);
  undecided.set_undecided(true);
  book.NotePending({undecided}, At(40), At(41));
  ASSERT_EQ(book.Show(At(41)).size(), 1u);
  EXPECT_TRUE(book.Show(At(41))[0].undecided());
}

TEST(HandoffBookTest, OfThoseEndedOnlyTheLastHundredAreKept) {
  HandoffBook book;
  for (int i = 0; i < 150; ++i)
    book.Note(Make("e" + std::to_string(i), v1::Handoff::STATE_RELEASED, i + 1), At(0));
  book.Note(Make("p", v1::Handoff::STATE_CAPTURED, 1), At(0));
  const std::vector<std::string> shown = Shown(book, At(1));
  EXPECT_EQ(shown.size(), 101u);
  EXPECT_EQ(shown.front(), "e149 STATE_RELEASED");
  EXPECT_EQ(shown.back(), "p STATE_CAPTURED");
}

}  // namespace
}  // namespace tsc_handoff::tscctl
