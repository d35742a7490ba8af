// What is refused, by name and with nothing changed.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "server/attach/testing/call_job.h"
#include "server/attach/testing/child.h"
#include "server/attach/testing/inject.h"
#include "server/base/error.h"

namespace tsc_handoff::attach {
namespace {

std::string RefusalOf(const absl::Status& status) {
  EXPECT_EQ(ReasonOf(status), Reason::kAttachRefused) << status;
  Metadata metadata = MetadataOf(status);
  return metadata["refusal"];
}

absl::Status InjectNothing(pid_t pid, const InjectionOptions& options = Patient()) {
  return Inject(pid, pid, CallJob({}), options).status();
}

TEST(Refused, ATracedThread) {
  Child child(AllWork().at("Spin"));
  ASSERT_EQ(ptrace(PTRACE_SEIZE, child.pid(), 0, 0), 0);
  EXPECT_EQ(RefusalOf(InjectNothing(child.pid())), "traced");
}

TEST(Refused, AZombie) {
  Child child([](ChildState& state) {
    state.ready = 1;
    return true;
  });
  siginfo_t ended;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(ReasonOf(InjectNothing(child.pid())), Reason::kVmmGone);
}

TEST(Refused, AProcessThatIsGone) {
  pid_t pid;
  {
    Child child(AllWork().at("Spin"));
    pid = child.pid();
  }
  EXPECT_EQ(ReasonOf(InjectNothing(pid)), Reason::kVmmGone);
}

TEST(Refused, AnUninterruptibleSleep) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer makes a fork of every vfork";
#endif
  Child child([](ChildState& state) {
    state.ready = 1;
    // The parent of a vfork waits in state D until its child is done.
    // NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): what this is about
    if (vfork() == 0) {
      while (state.stop == 0) syscall(SYS_sched_yield);  // NOLINT(clang-analyzer-unix.Vfork)
      _exit(0);
    }
    return true;
  });
  ASSERT_TRUE(WaitFor([&] {
    auto target = Target::Open(child.pid());
    auto text = target.ok() ? target->Read("status") : target.status();
    return text.ok() && text->find("State:\tD") != std::string::npos;
  }));
  EXPECT_EQ(RefusalOf(InjectNothing(child.pid())), "uninterruptible");
  EXPECT_EQ(child.Finish(), "");
}

TEST(Refused, AThreadIn32BitMode) {
  Child child([](ChildState& state) {
    // jmp to itself, means the same in both modes; reached by a far return.
    auto* const code =
        static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
    code[0] = 0xeb;
    code[1] = 0xfe;
    state.ready = 1;
    asm volatile("pushq $0x23\n\tpushq %0\n\tlretq" : : "r"(code) : "memory");
    return false;
  });
  // It may not have got there yet.
  EXPECT_TRUE(WaitFor([&] {
    const absl::Status status = InjectNothing(child.pid());
    return !status.ok() && RefusalOf(status) == "not_64_bit";
  }));
  EXPECT_TRUE(
      WaitFor([&] { return Fingerprint(child.pid()).find("TracerPid:\t0") != std::string::npos; }));
}

TEST(Refused, AThreadThatHandlesEverySignal) {
  Child child([](ChildState& state) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    for (int signal = 1; signal < SIGRTMIN; ++signal) sigaction(signal, &action, nullptr);
    state.ready = 1;
    while (state.stop == 0) usleep(1000);
    return true;
  });
  EXPECT_EQ(RefusalOf(InjectNothing(child.pid())), "all_signals_handled");
  EXPECT_EQ(child.Finish(), "");
}

// Permits all; but says EPERM to mprotect where `deny` says so.
bool Filter(bool deny_mprotect) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, deny_mprotect ? unsigned{SYS_mprotect} : 0xffffffu, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter = {4, program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}

TEST(Refused, ASeccompFilterUnlessItIsAllowed) {
  Child child([](ChildState& state) { return Filter(false) && AllWork().at("Ppoll")(state); });
  EXPECT_EQ(RefusalOf(InjectNothing(child.pid())), "seccomp_filter");
  InjectionOptions options = Patient();
  options.policy.allow_seccomp_filter = true;
  EXPECT_TRUE(InjectNothing(child.pid(), options).ok());
  EXPECT_EQ(child.Finish(), "");
}

TEST(Refused, AFilterThatForbidsACallLeavesTheTargetAsItWas) {
  Child child([](ChildState& state) { return Filter(true) && AllWork().at("Ppoll")(state); });
  const std::string before = Fingerprint(child.pid());
  InjectionOptions options = Patient();
  options.policy.allow_seccomp_filter = true;
  const absl::Status status = InjectNothing(child.pid(), options);
  EXPECT_EQ(ReasonOf(status), Reason::kInternalError) << status;
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  EXPECT_EQ(child.Finish(), "");
}

TEST(Refused, AnotherUsersProcess) {
  if (getuid() != 0) GTEST_SKIP() << "only root can become another user";
  Child child(AllWork().at("Spin"));
  const pid_t tracer = fork();
  if (tracer == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    const absl::Status status = InjectNothing(child.pid());
    _exit(ReasonOf(status) == Reason::kAttachRefused ? 0 : 1);
  }
  int status = 0;
  waitpid(tracer, &status, 0);
  if (WEXITSTATUS(status) == 2) GTEST_SKIP() << "no other user in this namespace";
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(child.Finish(), "");
}

}  // namespace
}  // namespace tsc_handoff::attach
