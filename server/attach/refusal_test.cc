#include "server/attach/refusal.h"

#include <signal.h>

#include "gtest/gtest.h"

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }
constexpr uint64_t kAll = ~uint64_t{0};

TEST(Refusal, Rows) {
  struct Row {
    TaskStatus status;
    bool allow_filter;
    const char* word;  // "" when the thread may be borrowed
  };
  const Row rows[] = {
      {{.state = 'S'}, false, ""},
      {{.state = 'R'}, false, ""},
      {{.state = 'T'}, false, ""},
      {{.state = 'D'}, false, "uninterruptible"},
      {{.state = 'Z'}, false, "zombie"},
      {{.state = 'X'}, false, "zombie"},
      {{.state = 't', .tracer_pid = 5}, false, "traced"},
      {{.state = 'S', .tracer_pid = 5}, false, "traced"},
      {{.state = 'S', .seccomp = 1}, true, "seccomp_strict"},
      {{.state = 'S', .seccomp = 2}, false, "seccomp_filter"},
      {{.state = 'S', .seccomp = 2}, true, ""},
      {{.state = 'S', .caught = kAll}, false, "all_signals_handled"},
  };
  for (const Row& row : rows) {
    AttachPolicy policy;
    policy.allow_seccomp_filter = row.allow_filter;
    const auto refusal = WhyNotBorrow(row.status, policy);
    EXPECT_EQ(refusal ? refusal->word : "", row.word) << row.status.state << row.status.seccomp;
    EXPECT_TRUE(!refusal || !refusal->sentence.empty());
  }
}

TEST(Refusal, TheReportIsASignalThatMeansNothing) {
  struct Row {
    TaskStatus status;
    int signal;  // 0: none
  };
  const Row rows[] = {
      {{}, SIGURG},
      {{.caught = Bit(SIGURG)}, SIGWINCH},
      {{.pending = Bit(SIGURG)}, SIGWINCH},
      {{.ignored = Bit(SIGPIPE), .caught = Bit(SIGURG) | Bit(SIGWINCH)}, SIGPIPE},
      {{.ignored = Bit(SIGCONT) | Bit(SIGCHLD), .caught = Bit(SIGURG) | Bit(SIGWINCH)}, 0},
      {{.caught = Bit(SIGURG) | Bit(SIGWINCH)}, 0},
  };
  for (const Row& row : rows) EXPECT_EQ(ReportSignal(row.status).value_or(0), row.signal);
}

TEST(Refusal, OnlyTheReportAndFaultsComeThrough) {
  const uint64_t mask = MaskWhileBorrowed(Bit(SIGTRAP) | Bit(SIGUSR1), SIGURG);
  EXPECT_EQ(~mask, Bit(SIGURG) | Bit(SIGSEGV) | Bit(SIGILL) | Bit(SIGFPE));
}

}  // namespace
}  // namespace tsc_handoff::attach
