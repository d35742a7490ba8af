#include "server/base/accounts.h"

#include <gtest/gtest.h>

namespace tsc_handoff {
namespace {

TEST(ParseUser, TakesNamesAndNumbers) {
  EXPECT_EQ(*ParseUser("64055"), 64055u);
  EXPECT_EQ(*ParseUser("root"), 0u);
  EXPECT_FALSE(ParseUser("no-such-user-here").ok());
  EXPECT_FALSE(ParseUser("").ok());
  EXPECT_FALSE(ParseUser("-1").ok());
}

TEST(ParseGroup, TakesNamesAndNumbers) {
  EXPECT_EQ(*ParseGroup("64055"), 64055u);
  EXPECT_EQ(*ParseGroup("root"), 0u);
  EXPECT_FALSE(ParseGroup("no-such-group-here").ok());
  EXPECT_FALSE(ParseGroup("").ok());
  EXPECT_FALSE(ParseGroup("4294967296").ok());
}

}  // namespace
}  // namespace tsc_handoff
