#include "server/attach/stub_layout.h"

#include <sys/syscall.h>

#include <cerrno>

#include "gtest/gtest.h"

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t kNone = ~uint64_t{0};
constexpr uint64_t kRip = 0x5000;

struct Row {
  const char* what;
  uint64_t number;
  int64_t result;
  uint64_t r10;
  bool no_signal_pending;
  // By the tracer:
  uint64_t restored_orig_rax;
  int64_t restored_rax;
  uint64_t restored_rip;
  // By itself:
  int64_t jump_rax;
  uint64_t jump_rip;
};

TEST(RegistersToRestore, Rows) {
  const Row rows[] = {
      {"user code", kNone, 77, 0, true, kNone, 77, kRip, 77, kRip},
      {"user code, like an error", kNone, -514, 0, true, kNone, -514, kRip, -514, kRip},
      {"finished call", SYS_read, 5, 0, true, SYS_read, 5, kRip, 5, kRip},
      {"read", SYS_read, -512, 0, true, SYS_read, -512, kRip, SYS_read, kRip - 2},
      {"ERESTARTNOINTR", SYS_futex, -513, 0, true, SYS_futex, -513, kRip, SYS_futex, kRip - 2},
      {"ppoll", SYS_ppoll, -514, 0, true, SYS_ppoll, -514, kRip, SYS_ppoll, kRip - 2},
      {"poll", SYS_poll, -516, 0, true, SYS_poll, -516, kRip, SYS_restart_syscall, kRip - 2},
      {"KVM_RUN", SYS_ioctl, -EINTR, 0, true, SYS_ioctl, -EINTR, kRip, -EINTR, kRip},
      {"epoll_wait for ever", SYS_epoll_wait, -EINTR, 0xffffffff, true, kNone, SYS_epoll_wait,
       kRip - 2, SYS_epoll_wait, kRip - 2},
      {"epoll_wait with a limit", SYS_epoll_wait, -EINTR, 50, true, SYS_epoll_wait, -EINTR, kRip,
       -EINTR, kRip},
      {"epoll_wait and a signal", SYS_epoll_wait, -EINTR, 0xffffffff, false, SYS_epoll_wait, -EINTR,
       kRip, -EINTR, kRip},
      {"epoll_pwait2 for ever", SYS_epoll_pwait2, -EINTR, 0, true, kNone, SYS_epoll_pwait2,
       kRip - 2, SYS_epoll_pwait2, kRip - 2},
  };
  for (const Row& row : rows) {
    user_regs_struct stopped = {};
    stopped.orig_rax = row.number;
    stopped.rax = static_cast<uint64_t>(row.result);
    stopped.rip = kRip;
    stopped.r10 = row.r10;
    const user_regs_struct restored = RegistersToRestore(stopped, row.no_signal_pending);
    EXPECT_EQ(restored.orig_rax, row.restored_orig_rax) << row.what;
    EXPECT_EQ(static_cast<int64_t>(restored.rax), row.restored_rax) << row.what;
    EXPECT_EQ(restored.rip, row.restored_rip) << row.what;
    const user_regs_struct jump = RegistersToJumpTo(restored);
    EXPECT_EQ(static_cast<int64_t>(jump.rax), row.jump_rax) << row.what;
    EXPECT_EQ(jump.rip, row.jump_rip) << row.what;
  }
}

}  // namespace
}  // namespace tsc_handoff::attach
