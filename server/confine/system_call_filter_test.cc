#include "server/confine/system_call_filter.h"

#include <asm/unistd.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include "server/base/unique_fd.h"

namespace tsc_handoff::confine {
namespace {

// Everything happens in children: a filter stays.
class SystemCallFilterTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

long Raw(long call, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  return syscall(call, a, b, c, d, e, f) >= 0 ? 0 : errno;
}

long Map(int protection) {
  return Raw(__NR_mmap, 0, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

struct Case {
  std::string name;
  long (*call)();
  int error;         // without --attach
  int error_attach;  // with it
};

const Case kCases[] = {
    {"AProgramIsStarted", [] { return Raw(__NR_execve); }, EPERM, EPERM},
    {"AProgramIsStartedAt", [] { return Raw(__NR_execveat, -1); }, EPERM, EPERM},
    {"AProcessIsForked", [] { return Raw(__NR_fork); }, EPERM, EPERM},
    {"AProcessIsCloned", [] { return Raw(__NR_clone, SIGCHLD); }, EPERM, EPERM},
    {"AThreadInANamespaceIsCloned",
     [] { return Raw(__NR_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWUSER); }, EPERM,
     EPERM},
    {"Clone3IsUnknown", [] { return Raw(__NR_clone3); }, ENOSYS, ENOSYS},
    {"ANamespaceIsMade", [] { return Raw(__NR_unshare, CLONE_NEWUSER); }, EPERM, EPERM},
    {"AFileSystemIsMounted", [] { return Raw(__NR_mount); }, EPERM, EPERM},
    {"AModuleIsLoaded", [] { return Raw(__NR_init_module); }, EPERM, EPERM},
    {"AProgramOfBpfIsLoaded", [] { return Raw(__NR_bpf); }, EPERM, EPERM},
    {"AnIoUringIsMade", [] { return Raw(__NR_io_uring_setup); }, EPERM, EPERM},
    {"TheClockIsSet", [] { return Raw(__NR_clock_settime); }, EPERM, EPERM},
    {"TheUserIsChanged", [] { return Raw(__NR_setuid, getuid()); }, EPERM, EPERM},
    {"ALimitIsRaised",
     [] {
       rlimit limit = {};
       getrlimit(RLIMIT_NOFILE, &limit);
       return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0L : errno;
     },
     EPERM, EPERM},
    {"APacketSocketIsOpened", [] { return Raw(__NR_socket, AF_PACKET, SOCK_RAW); }, EPERM, EPERM},
    {"NetlinkIsAsked", [] { return Raw(__NR_socket, AF_NETLINK, SOCK_RAW); }, EAFNOSUPPORT,
     EAFNOSUPPORT},
    {"AVmIsMade", [] { return Raw(__NR_ioctl, -1, KVM_CREATE_VM); }, EPERM, EPERM},
    {"MemoryIsWrittenAndExecuted", [] { return Map(PROT_READ | PROT_WRITE | PROT_EXEC); }, EPERM,
     EPERM},
    {"WrittenMemoryIsExecuted", [] { return Raw(__NR_mprotect, 0, 0, PROT_EXEC); }, EPERM, EPERM},
    {"ItsParentIsSignalled", [] { return Raw(__NR_kill, getppid(), 0); }, EPERM, EPERM},
    {"AThreadOfItsParentIsSignalled", [] { return Raw(__NR_tgkill, getppid(), getppid(), 0); },
     EPERM, 0},
    {"AProcessIsTraced", [] { return Raw(__NR_ptrace, PTRACE_CONT, getpid()); }, EPERM, ESRCH},
    {"AProcessIsReadFrom", [] { return Raw(__NR_process_vm_readv, getpid()); }, EPERM, 0},
    {"AProcessIsWrittenTo", [] { return Raw(__NR_process_vm_writev, getpid()); }, EPERM, 0},
    {"ADescriptorIsTaken", [] { return Raw(__NR_pidfd_getfd, -1); }, EPERM, EBADF},
    {"LimitsAreRead",
     [] {
       rlimit limit = {};
       return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0L : errno;
     },
     0, 0},
    {"ItselfIsSignalled", [] { return Raw(__NR_kill, getpid(), 0); }, 0, 0},
    {"MemoryIsMapped", [] { return Map(PROT_READ | PROT_WRITE); }, 0, 0},
    {"CodeIsMapped", [] { return Map(PROT_READ | PROT_EXEC); }, 0, 0},
    {"ASocketIsOpened", [] { return Raw(__NR_socket, AF_UNIX, SOCK_STREAM); }, 0, 0},
};

class CallTest : public SystemCallFilterTest, public testing::WithParamInterface<Case> {};

// Ends this child: with the error of the call.
void ConfineAndCall(const SystemCallFilter& filter, const Case& test) {
  if (!Confine(filter).ok()) _exit(255);
  _exit(static_cast<int>(test.call()));
}

TEST_P(CallTest, IsRefusedOrNot) {
  EXPECT_EXIT(ConfineAndCall({}, GetParam()), testing::ExitedWithCode(GetParam().error), "");
}

TEST_P(CallTest, IsRefusedOrNotWhenTheAgentMayAttach) {
  EXPECT_EXIT(ConfineAndCall({.attach = true}, GetParam()),
              testing::ExitedWithCode(GetParam().error_attach), "");
}

TEST_P(CallTest, KillsWhereItWouldBeRefused) {
  const SystemCallFilter filter = {.forbidden = Forbidden::kKills};
  if (GetParam().error == EPERM) {
    EXPECT_EXIT(ConfineAndCall(filter, GetParam()), testing::KilledBySignal(SIGSYS), "");
  } else {
    EXPECT_EXIT(ConfineAndCall(filter, GetParam()), testing::ExitedWithCode(GetParam().error), "");
  }
}

INSTANTIATE_TEST_SUITE_P(All, CallTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

// What the thread that was there before gets when it makes a process.
void ConfineAnotherThread() {
  const UniqueFd confined(eventfd(0, EFD_CLOEXEC));
  long error = 0;
  std::thread before([&] {
    eventfd_t ignored = 0;
    eventfd_read(confined.get(), &ignored);
    error = Raw(__NR_fork);
  });
  if (!Confine({}).ok()) _exit(255);
  eventfd_write(confined.get(), 1);
  before.join();
  _exit(static_cast<int>(error));
}

TEST_F(SystemCallFilterTest, BindsThreadsThatAreThereAlready) {
  EXPECT_EXIT(ConfineAnotherThread(), testing::ExitedWithCode(EPERM), "");
}

void StartAThread() {
  if (!Confine({.forbidden = Forbidden::kKills}).ok()) _exit(255);
  long error = 0;
  std::thread([&] { error = Raw(__NR_getpid); }).join();
  _exit(error == 0 ? 0 : 1);
}

TEST_F(SystemCallFilterTest, LetsThreadsBeStarted) {
  EXPECT_EXIT(StartAThread(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tsc_handoff::confine
