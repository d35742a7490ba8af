// What the children do. Each checks what its system call says: an injection must not be seen in it.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "server/attach/testing/child.h"
#include "server/attach/testing/registers.h"

namespace tsc_handoff::attach {
namespace {

constexpr int64_t kWaitNs = 30'000'000;

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

bool Fail(ChildState& state, const char* what, long result, int64_t waited_ns) {
  snprintf(state.failure, sizeof(state.failure), "%s: result %ld, errno %s, after %ld us", what,
           result, strerror(errno), static_cast<long>(waited_ns / 1000));
  return false;
}

// Repeats a wait of kWaitNs, which has to end as it does when nobody disturbs it: with `expected`,
// and not early.
template <typename Wait>
bool WaitAgainAndAgain(ChildState& state, const char* what, long expected, int expected_errno,
                       Wait wait) {
  while (state.stop == 0) {
    const int64_t began = NowNs();
    state.ready = 1;
    errno = 0;
    const long result = wait();
    const int64_t waited = NowNs() - began;
    if (result != expected || errno != expected_errno || waited < kWaitNs) {
      return Fail(state, what, result, waited);
    }
    ++state.rounds;
  }
  return true;
}

bool Ppoll(ChildState& state) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  pollfd one = {ends[0], POLLIN, 0};
  sigset_t mask;
  sigfillset(&mask);
  return WaitAgainAndAgain(state, "ppoll", 0, 0, [&] {
    const timespec limit = {0, kWaitNs};
    return ppoll(&one, 1, &limit, &mask);
  });
}

bool Poll(ChildState& state) {
  return WaitAgainAndAgain(state, "poll", 0, 0,
                           [] { return poll(nullptr, 0, kWaitNs / 1'000'000); });
}

bool Futex(ChildState& state) {
  int word = 0;
  return WaitAgainAndAgain(state, "futex", -1, ETIMEDOUT, [&word] {
    const timespec limit = {0, kWaitNs};
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &limit, nullptr, 0);
  });
}

bool Nanosleep(ChildState& state) {
  return WaitAgainAndAgain(state, "nanosleep", 0, 0, [] {
    const timespec limit = {0, kWaitNs};
    return syscall(SYS_nanosleep, &limit, nullptr);
  });
}

bool ClockNanosleep(ChildState& state) {
  return WaitAgainAndAgain(state, "clock_nanosleep", 0, 0, [] {
    const int64_t until = NowNs() + kWaitNs;
    const timespec at = {until / 1'000'000'000, until % 1'000'000'000};
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);
  });
}

// Waits without a limit for a byte that another thread writes: EINTR would be our doing.
template <typename Wait>
bool WaitForBytes(ChildState& state, const char* what, int byte_pipe[2], Wait wait) {
  struct Writer {
    ChildState* state;
    int fd;
  } writer = {&state, byte_pipe[1]};
  const auto write_bytes = [](void* argument) -> void* {
    const auto* self = static_cast<Writer*>(argument);
    while (self->state->stop == 0) {
      usleep(kWaitNs / 1000);
      if (write(self->fd, "x", 1) != 1) return nullptr;
    }
    // One more for a wait that was begun before it could know.
    (void)!write(self->fd, "x", 1);
    return nullptr;
  };
  pthread_t thread;
  if (pthread_create(&thread, nullptr, write_bytes, &writer) != 0) return false;
  bool good = true;
  while (good && state.stop == 0) {
    state.ready = 1;
    const long result = wait();
    char byte;
    if (result != 1 || read(byte_pipe[0], &byte, 1) != 1) good = Fail(state, what, result, 0);
    ++state.rounds;
  }
  state.stop = 1;
  pthread_join(thread, nullptr);
  return good;
}

bool EpollWait(ChildState& state) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const int epoll = epoll_create1(0);
  epoll_event event = {.events = EPOLLIN, .data = {}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
  return WaitForBytes(state, "epoll_wait", ends, [epoll] {
    epoll_event got;
    return epoll_wait(epoll, &got, 1, -1);
  });
}

bool PpollForever(ChildState& state) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  pollfd one = {ends[0], POLLIN, 0};
  return WaitForBytes(state, "ppoll", ends, [&one] { return ppoll(&one, 1, nullptr, nullptr); });
}

bool BlockingRead(ChildState& state) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  return WaitForBytes(state, "read", ends, [&] {
    char byte;
    // Read here, and put back for the caller.
    if (read(ends[0], &byte, 1) != 1) return -1;
    return write(ends[1], &byte, 1) == 1 ? 1 : -1;
  });
}

// Waits for kWaitNs in one of these system calls, with known values in all registers.
bool RegistersIn(ChildState& state, const char* what, std::array<long, 7> call, long expected) {
  while (state.stop == 0) {
    const int64_t began = NowNs();
    state.ready = 1;
    long result = 0;
    const long differences = syscall_and_check_registers(call.data(), &result);
    const int64_t waited = NowNs() - began;
    if (differences != 0)
      return Fail(state, "registers differ after a system call", differences, 0);
    if (result != expected || waited < kWaitNs) return Fail(state, what, result, waited);
    ++state.rounds;
  }
  return true;
}

const timespec kWait = {0, kWaitNs};

bool RegistersInPpoll(ChildState& state) {
  // The kernel writes what is left into it.
  while (state.stop == 0) {
    timespec left = kWait;
    std::array<long, 7> call = {SYS_ppoll, 0, 0, reinterpret_cast<long>(&left), 0, 8, 7};
    const int64_t began = NowNs();
    state.ready = 1;
    long result = 0;
    const long differences = syscall_and_check_registers(call.data(), &result);
    if (differences != 0) return Fail(state, "registers differ after ppoll", differences, 0);
    if (result != 0 || NowNs() - began < kWaitNs) {
      return Fail(state, "ppoll", result, NowNs() - began);
    }
    ++state.rounds;
  }
  return true;
}

bool RegistersInFutex(ChildState& state) {
  int word = 0;
  return RegistersIn(state, "futex",
                     {SYS_futex, reinterpret_cast<long>(&word), FUTEX_WAIT_PRIVATE, 0,
                      reinterpret_cast<long>(&kWait), 5, 6},
                     -ETIMEDOUT);
}

bool RegistersInNanosleep(ChildState& state) {
  return RegistersIn(state, "nanosleep",
                     {SYS_nanosleep, reinterpret_cast<long>(&kWait), 0, 3, 4, 5, 6}, 0);
}

bool Spin(ChildState& state) {
  state.ready = 1;
  if (spin_and_check_registers(reinterpret_cast<const volatile int*>(&state.stop))) return true;
  return Fail(state, "registers differ", 0, 0);
}

ChildState* handler_state = nullptr;
bool handler_good = false;

void SpinInHandler(int) { handler_good = Spin(*handler_state); }

bool InSignalHandler(ChildState& state) {
  handler_state = &state;
  struct sigaction action = {};
  action.sa_handler = SpinInHandler;
  sigaction(SIGUSR1, &action, nullptr);
  raise(SIGUSR1);
  return handler_good;
}

bool OnAlternateStack(ChildState& state) {
  const auto stack = std::make_unique<char[]>(64 * 1024);
  stack_t alternate = {};
  alternate.ss_sp = stack.get();
  alternate.ss_size = 64 * 1024;
  sigaltstack(&alternate, nullptr);
  handler_state = &state;
  struct sigaction action = {};
  action.sa_handler = SpinInHandler;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &action, nullptr);
  raise(SIGUSR1);
  stack_t now = {};
  sigaltstack(nullptr, &now);
  return handler_good && now.ss_sp == stack.get() && now.ss_flags == 0;
}

void CountSignal(int) { ++handler_state->signals; }

// Handles signals and a timer's ticks while it is attached to.
bool CountingSignals(ChildState& state) {
  handler_state = &state;
  struct sigaction action = {};
  action.sa_handler = CountSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGRTMIN + 1, &action, nullptr);
  struct sigaction ticks = action;
  ticks.sa_handler = [](int) { ++handler_state->rounds; };
  sigaction(SIGALRM, &ticks, nullptr);
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGALRM;
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return false;
  const itimerspec each = {{0, 500'000}, {0, 500'000}};
  timer_settime(timer, 0, &each, nullptr);
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, nullptr, &before);
  state.ready = 1;
  while (state.stop == 0) pause();
  sigset_t after;
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  return memcmp(&before, &after, 8) == 0;
}

bool ManyThreads(ChildState& state) {
  std::vector<pthread_t> threads(24);
  for (size_t i = 0; i < threads.size(); ++i) {
    const auto busy = [](void* argument) -> void* {
      auto* const self = static_cast<ChildState*>(argument);
      while (self->stop == 0) {
        ++self->rounds;
        usleep(200);
      }
      return nullptr;
    };
    if (pthread_create(&threads[i], nullptr, busy, &state) != 0) return false;
  }
  state.ready = 1;
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  return true;
}

}  // namespace

const std::map<std::string, ChildWork>& AllWork() {
  static const std::map<std::string, ChildWork> all = {
      {"Ppoll", Ppoll},
      {"PpollForever", PpollForever},
      {"Poll", Poll},
      {"Futex", Futex},
      {"Nanosleep", Nanosleep},
      {"ClockNanosleep", ClockNanosleep},
      {"EpollWait", EpollWait},
      {"BlockingRead", BlockingRead},
      {"RegistersInPpoll", RegistersInPpoll},
      {"RegistersInFutex", RegistersInFutex},
      {"RegistersInNanosleep", RegistersInNanosleep},
      {"Spin", Spin},
      {"InSignalHandler", InSignalHandler},
      {"OnAlternateStack", OnAlternateStack},
      {"CountingSignals", CountingSignals},
      {"ManyThreads", ManyThreads},
  };
  return all;
}

}  // namespace tsc_handoff::attach
