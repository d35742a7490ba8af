// That FORTIFY is at level 2, which no binary shows: level 1 lets a string run over into the next
// member of its structure.
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <string>

namespace tsc_handoff {
namespace {

struct TwoNames {
  char first[8];
  char second[24];
};

// Not seen through by the compiler, which would refuse what overflows for certain.
[[gnu::noinline]] void SetFirst(TwoNames& names, const char* text) {
  // NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.strcpy): the mistake that must not work
  std::strcpy(names.first, text);
}

TEST(FortifyTest, AStringStaysInItsMember) {
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "FORTIFY is off in builds for sanitizers and without optimisation";
#endif
  TwoNames names = {};
  SetFirst(names, "fits");
  EXPECT_STREQ(names.first, "fits");
  const std::string longer(std::strlen("runs over"), 'x');
  EXPECT_EXIT(SetFirst(names, longer.c_str()), testing::KilledBySignal(SIGABRT), "overflow");
}

}  // namespace
}  // namespace tsc_handoff
