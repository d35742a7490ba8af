#include "client/tscctl/transfer_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace tsc_handoff::tscctl {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

class TransferProgressTest : public ::testing::Test {
 protected:
  std::string Shown(bool terminal, bool json) {
    std::ostringstream out;
    std::ostringstream err;
    Io io{.out = out,
          .err = err,
          .out_palette = Palette(false),
          .err_palette = Palette(false),
          .json = json,
          .show_progress = terminal};
    TransferProgress progress(io);
    progress.Show({"setup", 0, 0, 0});
    progress.Show({"active", 64 * kMiB, 192 * kMiB, 256 * kMiB});
    progress.Show({"active", 128 * kMiB, 64 * kMiB, 256 * kMiB});
    progress.TellOfInterrupt();
    progress.TellOfInterrupt();
    progress.Show({"completed", 256 * kMiB, 0, 256 * kMiB});
    progress.End();
    progress.End();
    EXPECT_EQ(out.str(), "");
    return err.str();
  }
};

TEST_F(TransferProgressTest, APersonSeesABarThatFills) {
  const std::string shown = Shown(/*terminal=*/true, /*json=*/false);
  EXPECT_THAT(shown, HasSubstr("[....................] 0 B sent, 0 B left  setup"));
  EXPECT_THAT(shown, HasSubstr("[#####...............] 64 MiB sent, 192 MiB left  active"));
  EXPECT_THAT(shown, HasSubstr("[###############.....] 128 MiB sent, 64 MiB left  active\n"
                               "migrate-qemu: interrupted"));
  EXPECT_TRUE(shown.ends_with("[####################] 256 MiB sent, 0 B left  completed\n"));
}

TEST_F(TransferProgressTest, ALogGetsALineForEachNewState) {
  EXPECT_EQ(Shown(/*terminal=*/false, /*json=*/false),
            "migration  setup  0 B\n"
            "migration  active  64 MiB\n"
            "migrate-qemu: interrupted; cancelling the migration. Ctrl-C again leaves all as it "
            "is.\n"
            "migration  completed  256 MiB\n");
}

TEST_F(TransferProgressTest, WithJsonNothingIsShown) {
  EXPECT_EQ(Shown(/*terminal=*/false, /*json=*/true), "");
}

TEST(HumanBytes, UsesTheUnitThatSuits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(5ull << 30), "5 GiB");
}

}  // namespace
}  // namespace tsc_handoff::tscctl
