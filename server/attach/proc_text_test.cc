#include "server/attach/proc_text.h"

#include <string>

#include "gtest/gtest.h"

namespace tsc_handoff::attach {
namespace {

constexpr char kStatus[] =
    "Name:\tqemu (x) S\nUmask:\t0022\nState:\tS "
    "(sleeping)\nTgid:\t120\nNgid:\t0\nPid:\t121\nPPid:\t1\n"
    "TracerPid:\t7\nUid:\t0\t0\t0\t0\nNStgid:\t120\t12\nNSpid:\t121\t13\nThreads:\t4\nSigQ:\t0/1\n"
    "SigPnd:\t0000000000000001\nShdPnd:\t0000000000000004\nSigBlk:\t0000000010002240\n"
    "SigIgn:\t0000000000001000\nSigCgt:\t0000000180004243\nSeccomp:\t2\nSeccomp_filters:\t1\n";

TEST(ParseStatus, ReadsWhatIsNeeded) {
  const auto status = ParseStatus(kStatus);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->state, 'S');
  EXPECT_EQ(status->tgid, 120);
  EXPECT_EQ(status->tracer_pid, 7);
  EXPECT_EQ(status->inner_tgid, 12);
  EXPECT_EQ(status->inner_tid, 13);
  EXPECT_EQ(status->seccomp, 2);
  EXPECT_EQ(status->pending, 5u);
  EXPECT_EQ(status->blocked, 0x10002240u);
  EXPECT_EQ(status->ignored, 0x1000u);
  EXPECT_EQ(status->caught, 0x180004243u);
}

TEST(ParseStatus, WithoutNamespacesTheIdsAreTheOuterOnes) {
  const auto status = ParseStatus("State:\tR (running)\nTgid:\t5\nPid:\t6\nSeccomp:\t0\n");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->inner_tgid, 5);
  EXPECT_EQ(status->inner_tid, 6);
}

TEST(ParseStatus, ATextThatWasCutOffIsNone) {
  const std::string whole(kStatus);
  for (size_t length = 0; length < whole.find("Seccomp:\t2"); ++length) {
    EXPECT_FALSE(ParseStatus(whole.substr(0, length))) << length;
  }
}

TEST(ParseStatus, GarbageIsNone) {
  for (const char* text : {"", "\n\n", "nonsense", "State:\nTgid:\nPid:\nSeccomp:\n",
                           "State:\tS\nTgid:\tx\nPid:\t1\nSeccomp:\t0\n",
                           "State:\tS\nTgid:\t1\nPid:\t-\nSeccomp:\t0\n",
                           "State:\tS\nTgid:\t1\nPid:\t1\nSigBlk:\tzz\nSeccomp:\t0\n"}) {
    EXPECT_FALSE(ParseStatus(text)) << text;
  }
}

struct SyscallRow {
  const char* text;
  bool readable;
  bool running;
  int64_t number;
  uint64_t arg1;
};

TEST(ParseSyscall, Rows) {
  const SyscallRow rows[] = {
      {"running\n", true, true, -1, 0},
      {"-1 0x7ffd3 0x7f12\n", true, false, -1, 0},
      {"16 0x1b 0xae80 0x0 0xffffffff 0x1 0x2 0x7f00 0x7f01\n", true, false, 16, 0xae80},
      {"271 0x55d 0x3 0x7ff 0x0 0x8 0x0 0x7ffe 0x7f7\n", true, false, 271, 3},
      {"", false, false, 0, 0},
      {"x\n", false, false, 0, 0},
      {"16 0x1b 0xae80\n", false, false, 0, 0},
      {"16 0x1b nothex 0x0 0x0 0x0 0x0 0x7f00 0x7f01\n", false, false, 0, 0},
  };
  for (const SyscallRow& row : rows) {
    const auto parsed = ParseSyscall(row.text);
    ASSERT_EQ(parsed.has_value(), row.readable) << row.text;
    if (!parsed) continue;
    EXPECT_EQ(parsed->running, row.running) << row.text;
    EXPECT_EQ(parsed->number, row.number) << row.text;
    EXPECT_EQ(parsed->args[1], row.arg1) << row.text;
  }
}

TEST(ParseMaps, ReadsLinesAndLeavesOutOthers) {
  const auto maps = ParseMaps(
      "55d0-55d2 r-xp 00001000 fe:00 33 /usr/bin/a name with spaces (deleted)\n"
      "nonsense\n"
      "7f00-7f0 r--p 00000000 00:00 0\n"
      "7f10-7f20 rw-s 00000000 00:01 9   /dev/shm/x\n"
      "7ffe0000-7ffe2000 r-xp 00000000 00:00 0                          [vdso]\n"
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"
      "7f30-7f40 rw-p 00000000 00:00 0 \n"
      "7f50-7f6");
  ASSERT_EQ(maps.size(), 5u);
  EXPECT_EQ(maps[0].name, "/usr/bin/a name with spaces (deleted)");
  EXPECT_TRUE(maps[0].readable && maps[0].executable && !maps[0].shared);
  EXPECT_TRUE(maps[1].shared && !maps[1].executable);
  EXPECT_EQ(maps[2].name, "[vdso]");
  EXPECT_EQ(maps[2].end - maps[2].start, 0x2000u);
  EXPECT_FALSE(maps[3].readable);
  EXPECT_EQ(maps[3].start, 0xffffffffff600000u);
  EXPECT_EQ(maps[4].name, "");
}

}  // namespace
}  // namespace tsc_handoff::attach
