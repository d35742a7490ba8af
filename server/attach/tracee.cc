#include "server/attach/tracee.h"

#include <elf.h>
#include <linux/rseq.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/attach/wake_timer.h"
#include "server/base/error.h"

namespace tsc_handoff::attach {
namespace {

// While waiting for a stop: looks for as long as one usually takes, then blocks, and comes back now
// and then to see to everything else. (A CPU that looks again and again keeps an emulated tracee
// from its own.)
constexpr absl::Duration kLookFor = absl::Microseconds(30);
constexpr absl::Duration kComeBackEvery = absl::Milliseconds(1);
constexpr timespec kSleepWithoutTimer = {0, 200'000};
// Linux 5.13; the C library's headers do not have it.
constexpr int kPtraceGetRseqConfiguration = 0x420f;

struct RseqConfiguration {
  uint64_t area;
  uint32_t area_bytes;
  uint32_t signature;
  uint32_t flags;
  uint32_t pad;
};

long Ptrace(int request, pid_t tid, uintptr_t address, uintptr_t data) {
  return ptrace(static_cast<__ptrace_request>(request), tid, reinterpret_cast<void*>(address),
                reinterpret_cast<void*>(data));
}

template <typename T>
uintptr_t AddressOf(T& value) {
  return reinterpret_cast<uintptr_t>(&value);
}

template <typename T>
bool ReadMemory(pid_t tid, uint64_t address, T& out) {
  const iovec local = {&out, sizeof(out)};
  const iovec remote = {reinterpret_cast<void*>(address), sizeof(out)};
  return process_vm_readv(tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(sizeof(out));
}

}  // namespace

absl::StatusOr<Tracee> Tracee::Seize(const Target& target, pid_t tid) {
  Tracee out(target, tid);
  if (Ptrace(PTRACE_SEIZE, tid, 0, 0) != 0) {
    out.gone_ = true;
    return out.Failure("PTRACE_SEIZE");
  }
  // The thread was named by number. Under the target's own directory it cannot be another
  // process's.
  if (auto status = target.Read(absl::StrCat("task/", tid, "/status")); !status.ok()) {
    return status.status();
  }
  return out;
}

Tracee::Tracee(Tracee&& other) noexcept
    : target_(other.target_),
      tid_(other.tid_),
      stopped_(other.stopped_),
      gone_(std::exchange(other.gone_, true)) {}

Tracee::~Tracee() {
  if (!gone_ && stopped_) Ptrace(PTRACE_DETACH, tid_, 0, 0);
}

absl::Status Tracee::Failure(const char* what) {
  const int error = errno;
  const Metadata metadata = {{"pid", absl::StrCat(target_->pid())},
                             {"tid", absl::StrCat(tid_)},
                             {"errno", absl::StrCat(error)},
                             {"refusal", "not_permitted"}};
  if (error == ESRCH) {
    gone_ = true;
    return Error(Reason::kVmmGone,
                 absl::StrCat("thread ", tid_, " of process ", target_->pid(), " has ended"),
                 metadata);
  }
  return Error(Reason::kAttachRefused,
               absl::StrCat("thread ", tid_, " of process ", target_->pid(), ": ", what, ": ",
                            strerror(error)),
               metadata);
}

absl::Status Tracee::Interrupt() {
  return Ptrace(PTRACE_INTERRUPT, tid_, 0, 0) == 0 ? absl::OkStatus() : Failure("PTRACE_INTERRUPT");
}

absl::StatusOr<Stop> Tracee::WaitStop(absl::Time deadline,
                                      const std::function<absl::Status()>& idle) {
  thread_local WakeTimer timer;
  const absl::Time began = absl::Now();
  bool blocks = false;
  const absl::Cleanup stop_timer = [&blocks] {
    if (blocks) timer.Stop();
  };
  while (true) {
    int status = 0;
    const pid_t changed = waitpid(tid_, &status, __WALL | (blocks ? 0 : WNOHANG));
    if (changed == tid_ && WIFSTOPPED(status)) {
      stopped_ = true;
      return Stop{WSTOPSIG(status), status >> 16 == PTRACE_EVENT_STOP};
    }
    if (changed > 0 || (changed < 0 && errno != EINTR)) {
      errno = ESRCH;
      return Failure("waitpid");
    }
    const absl::Time now = absl::Now();
    if (now >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat("thread ", tid_, " has not stopped"));
    }
    if (now - began < kLookFor) {
      sched_yield();
      continue;
    }
    if (idle && now - began >= kComeBackEvery) {
      if (absl::Status status_of_idle = idle(); !status_of_idle.ok()) return status_of_idle;
    }
    if (!timer.usable()) nanosleep(&kSleepWithoutTimer, nullptr);
    if (timer.usable() && !blocks) timer.Start(kComeBackEvery);
    blocks = timer.usable();
  }
}

absl::StatusOr<user_regs_struct> Tracee::Registers() {
  user_regs_struct regs = {};
  iovec block = {&regs, sizeof(regs)};
  if (Ptrace(PTRACE_GETREGSET, tid_, NT_PRSTATUS, AddressOf(block)) != 0) {
    return Failure("PTRACE_GETREGSET");
  }
  constexpr uint64_t kUserCode64 = 0x33;
  if (block.iov_len != sizeof(regs) || regs.cs != kUserCode64) {
    return Error(
        Reason::kAttachRefused,
        absl::StrCat("thread ", tid_, " of process ", target_->pid(), " is in 32-bit mode"),
        {{"pid", absl::StrCat(target_->pid())}, {"refusal", "not_64_bit"}});
  }
  return regs;
}

absl::Status Tracee::SetRegisters(const user_regs_struct& regs) {
  user_regs_struct copy = regs;
  iovec block = {&copy, sizeof(copy)};
  if (Ptrace(PTRACE_SETREGSET, tid_, NT_PRSTATUS, AddressOf(block)) != 0) {
    return Failure("PTRACE_SETREGSET");
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Tracee::SignalMask() {
  uint64_t mask = 0;
  if (Ptrace(PTRACE_GETSIGMASK, tid_, sizeof(mask), AddressOf(mask)) != 0) {
    return Failure("PTRACE_GETSIGMASK");
  }
  return mask;
}

absl::Status Tracee::SetSignalMask(uint64_t mask) {
  return Ptrace(PTRACE_SETSIGMASK, tid_, sizeof(mask), AddressOf(mask)) == 0
             ? absl::OkStatus()
             : Failure("PTRACE_SETSIGMASK");
}

absl::StatusOr<bool> Tracee::SignalIsFault() {
  siginfo_t info = {};
  if (Ptrace(PTRACE_GETSIGINFO, tid_, 0, AddressOf(info)) != 0) return Failure("PTRACE_GETSIGINFO");
  return info.si_code > 0;
}

absl::StatusOr<uint64_t> Tracee::AfterRestartableSequence(uint64_t rip) {
  RseqConfiguration configuration = {};
  const long bytes =
      Ptrace(kPtraceGetRseqConfiguration, tid_, sizeof(configuration), AddressOf(configuration));
  uint64_t sequence_address = 0;
  rseq_cs sequence = {};
  if (bytes < 0 || configuration.area == 0 ||
      !ReadMemory(tid_, configuration.area + offsetof(struct rseq, rseq_cs), sequence_address) ||
      sequence_address == 0 || !ReadMemory(tid_, sequence_address, sequence)) {
    return rip;
  }
  // Going back into the middle would be an atomicity that the thread was promised and does not
  // have.
  return rip - sequence.start_ip < sequence.post_commit_offset ? sequence.abort_ip : rip;
}

absl::Status Tracee::Continue(int signal) {
  if (Ptrace(PTRACE_CONT, tid_, 0, static_cast<uintptr_t>(signal)) != 0)
    return Failure("PTRACE_CONT");
  stopped_ = false;
  return absl::OkStatus();
}

absl::Status Tracee::Detach() {
  if (Ptrace(PTRACE_DETACH, tid_, 0, 0) != 0) return Failure("PTRACE_DETACH");
  gone_ = true;
  return absl::OkStatus();
}

void OnTracingThread(const std::function<void()>& work) { std::thread(work).join(); }

}  // namespace tsc_handoff::attach
