#include "server/base/trace.h"

#include <gtest/gtest.h>

#include <thread>

namespace tsc_handoff {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kGood[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceTest, TheTraceIsTakenFromATraceparentAndFromNothingElse) {
  const struct {
    const char* text;
    const char* trace;
  } kRows[] = {
      {kGood, kTrace},
      {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", kTrace},
      {"", ""},
      {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", ""},
      {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", ""},
      {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01later", ""},
      {"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ""},
      {"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", ""},
      {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
      {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ""},
      {"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ""},
      {"00-4bf92f3577b34da6a3ce929d0e0e4736\n00f067aa0ba902b7-01", ""},
  };
  for (const auto& row : kRows) EXPECT_EQ(TraceIdOf(row.text), row.trace) << row.text;
}

TEST(TraceTest, AScopeIsItsThreadsAndEnds) {
  EXPECT_EQ(TraceScope::Current(), "");
  {
    const TraceScope scope(kGood);
    EXPECT_EQ(TraceScope::Current(), kGood);
    std::thread([] { EXPECT_EQ(TraceScope::Current(), ""); }).join();
    {
      const TraceScope inner("nonsense");
      EXPECT_EQ(TraceScope::Current(), "");
    }
    EXPECT_EQ(TraceScope::Current(), kGood);
  }
  EXPECT_EQ(TraceScope::Current(), "");
}

}  // namespace
}  // namespace tsc_handoff
