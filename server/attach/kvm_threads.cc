#include "server/attach/kvm_threads.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/attach/ending.h"

namespace tsc_handoff::attach {
namespace {

// A thread on a CPU stops within microseconds. On a busy machine under emulation it may take tenths
// of a second: QEMU's TCG gives a CPU that does not rest 100 ms before it turns to the next one.
constexpr absl::Duration kLookTimeout = absl::Milliseconds(500);

enum class Seen { kElsewhere, kInKvmRun, kOnCpu };

Seen LookThroughProc(const Target& target, int tid, const std::vector<int>& vcpu_fds) {
  auto text = target.Read(absl::StrCat("task/", tid, "/syscall"));
  // A thread that has ended meanwhile executes nothing.
  if (!text.ok()) return Seen::kElsewhere;
  const std::optional<TaskSyscall> call = ParseSyscall(*text);
  if (!call || call->running) return Seen::kOnCpu;
  return IsKvmRun(call->number, call->args[0], call->args[1], vcpu_fds) ? Seen::kInKvmRun
                                                                        : Seen::kElsewhere;
}

// Stops a thread. Its registers, when it was executing a vCPU.
std::optional<Tracee> StopIfExecuting(const Target& target, int tid,
                                      const std::vector<int>& vcpu_fds, bool& unknown) {
  absl::StatusOr<Tracee> tracee = Tracee::Seize(target, tid);
  if (!tracee.ok()) {
    // Traced by somebody else, for example.
    unknown = !IsEnding(target, tid);
    return std::nullopt;
  }
  if (!tracee->Interrupt().ok()) return std::nullopt;
  const absl::Time deadline = absl::Now() + kLookTimeout;
  while (true) {
    absl::StatusOr<Stop> stop = tracee->WaitStop(deadline);
    if (!stop.ok()) {
      // One that was killed does not stop any more, and executes no vCPU either.
      unknown = absl::IsDeadlineExceeded(stop.status()) && !IsEnding(target, tid);
      return std::nullopt;
    }
    if (stop->is_event) break;
    if (!tracee->Continue(stop->signal).ok() || !tracee->Interrupt().ok()) return std::nullopt;
  }
  absl::StatusOr<user_regs_struct> regs = tracee->Registers();
  if (!regs.ok() ||
      !IsKvmRun(static_cast<int64_t>(regs->orig_rax), regs->rdi, regs->rsi, vcpu_fds)) {
    return std::nullopt;  // and is let go
  }
  return *std::move(tracee);
}

}  // namespace

bool IsKvmRun(int64_t number, uint64_t fd, uint64_t request, const std::vector<int>& vcpu_fds) {
  return number == SYS_ioctl && static_cast<uint32_t>(request) == KVM_RUN &&
         std::find(vcpu_fds.begin(), vcpu_fds.end(), static_cast<int>(fd)) != vcpu_fds.end();
}

absl::StatusOr<bool> VcpusExecute(const Target& target, const std::vector<int>& vcpu_fds) {
  absl::StatusOr<std::vector<int>> threads = target.List("task");
  if (!threads.ok()) return threads.status();
  std::vector<int> on_cpu;
  for (int tid : *threads) {
    const Seen seen = LookThroughProc(target, tid, vcpu_fds);
    if (seen == Seen::kInKvmRun) return true;
    if (seen == Seen::kOnCpu) on_cpu.push_back(tid);
  }
  bool executing = false;
  for (size_t i = 0; i < on_cpu.size() && !executing; ++i) {
    // It may have come to rest meanwhile; then nobody needs to stop it.
    const Seen seen = LookThroughProc(target, on_cpu[i], vcpu_fds);
    executing = seen == Seen::kInKvmRun;
    if (seen != Seen::kOnCpu) continue;
    OnTracingThread([&] {
      bool unknown = false;
      executing = StopIfExecuting(target, on_cpu[i], vcpu_fds, unknown).has_value() || unknown;
    });
  }
  return executing;
}

std::optional<bool> VcpusSeenExecuting(const Target& target, const std::vector<int>& vcpu_fds) {
  absl::StatusOr<std::vector<int>> threads = target.List("task");
  if (!threads.ok()) return std::nullopt;
  bool all_seen = true;
  for (int tid : *threads) {
    auto text = target.Read(absl::StrCat("task/", tid, "/syscall"));
    const std::optional<TaskSyscall> call = text.ok() ? ParseSyscall(*text) : std::nullopt;
    if (!call || call->running) {
      all_seen = false;
    } else if (IsKvmRun(call->number, call->args[0], call->args[1], vcpu_fds)) {
      return true;
    }
  }
  return all_seen ? std::optional<bool>(false) : std::nullopt;
}

bool VcpusMayExecute(const Target& target, const std::vector<int>& vcpu_fds, pid_t except) {
  absl::StatusOr<std::vector<int>> threads = target.List("task");
  return threads.ok() && std::any_of(threads->begin(), threads->end(), [&](int tid) {
           return tid != except && LookThroughProc(target, tid, vcpu_fds) != Seen::kElsewhere;
         });
}

std::vector<Tracee> HoldExecutingThreads(const Target& target, const std::vector<int>& vcpu_fds,
                                         pid_t except) {
  std::vector<Tracee> out;
  absl::StatusOr<std::vector<int>> threads = target.List("task");
  if (!threads.ok()) return out;
  for (int tid : *threads) {
    if (tid == except || LookThroughProc(target, tid, vcpu_fds) == Seen::kElsewhere) continue;
    bool unknown = false;
    if (std::optional<Tracee> held = StopIfExecuting(target, tid, vcpu_fds, unknown)) {
      out.push_back(*std::move(held));
    }
  }
  return out;
}

}  // namespace tsc_handoff::attach
