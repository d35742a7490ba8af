#include "server/agent/connection_load.h"

#include <gtest/gtest.h>

namespace tsc_handoff::agent {
namespace {

TEST(ParseLoad, TakesPeerAndCountsAndNothingElse) {
  const ConnectionLoad load = ParseLoad(
      R"({"socket":{"data":{"streamsStarted":"12","streamsFailed":"3","streamsSucceeded":"4"},)"
      R"("ref":{"name":"chttp2 ipv4:127.0.0.1:4711","socketId":"7"}}})");
  EXPECT_EQ(load.peer, "ipv4:127.0.0.1:4711");
  EXPECT_EQ(load.begun, 12);
  EXPECT_EQ(load.failed, 3);
  EXPECT_EQ(load.succeeded, 4);
  EXPECT_EQ(load.open(), 5);
  for (const char* other : {"", "{}", "[]", "no json", R"({"socket":{"ref":{"name":7}}})",
                            R"({"socket":{"ref":{"name":"inproc"}}})", R"({"socket":[]})"})
    EXPECT_EQ(ParseLoad(other).peer, "") << other;
}

struct FloodCase {
  const char* name;
  ConnectionLoad before;
  ConnectionLoad now;
  bool flood;
};

TEST(IsFlood, IsWhatNoPeerDoesThatKeepsToTheRules) {
  const FloodCase cases[] = {
      {"nothing", {}, {}, false},
      {"all calls that may be open", {}, {.begun = 64}, false},
      {"twice as many, before the limit was known", {}, {.begun = 128}, false},
      {"more", {}, {.begun = 129}, true},
      {"many calls, served", {}, {.begun = 50'000, .succeeded = 50'000}, false},
      {"many calls, taken back", {}, {.begun = 1'001, .failed = 1'001}, true},
      {"not so many", {}, {.begun = 1'000, .failed = 1'000}, false},
      {"some among many", {}, {.begun = 9'000, .failed = 3'000, .succeeded = 6'000}, false},
      {"long ago", {.failed = 5'000}, {.begun = 5'900, .failed = 5'900}, false},
  };
  for (const FloodCase& row : cases)
    EXPECT_EQ(IsFlood(row.before, row.now, 64), row.flood) << row.name;
}

}  // namespace
}  // namespace tsc_handoff::agent
