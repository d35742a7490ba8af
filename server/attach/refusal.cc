#include "server/attach/refusal.h"

#include <signal.h>

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }

}  // namespace

std::optional<Refusal> WhyNotBorrow(const TaskStatus& status, const AttachPolicy& policy) {
  if (status.state == 'Z' || status.state == 'X') {
    return Refusal{"zombie", "has ended and waits for its parent"};
  }
  if (status.tracer_pid != 0 || status.state == 't') {
    return Refusal{"traced", "is being traced already, by a debugger for example"};
  }
  if (status.state == 'D') {
    return Refusal{"uninterruptible", "is in an uninterruptible sleep"};
  }
  if (status.seccomp == 1) {
    return Refusal{"seccomp_strict",
                   "is in seccomp's strict mode, which kills it for any system call"};
  }
  if (status.seccomp == 2 && !policy.allow_seccomp_filter) {
    return Refusal{
        "seccomp_filter",
        "has a seccomp filter, and nobody has said that it permits what would be injected"};
  }
  if (!ReportSignal(status)) {
    return Refusal{"all_signals_handled",
                   "handles every signal by which the injected code could report"};
  }
  return std::nullopt;
}

std::optional<int> ReportSignal(const TaskStatus& status) {
  const auto usable = [&status](int signal) {
    return (status.caught & Bit(signal)) == 0 && (status.pending & Bit(signal)) == 0;
  };
  for (int signal : {SIGURG, SIGWINCH}) {
    if (usable(signal)) return signal;
  }
  for (int signal = 1; signal < SIGSYS; ++signal) {
    if (signal == SIGCONT || signal == SIGCHLD) continue;  // these do more than to be ignored
    if ((status.ignored & Bit(signal)) != 0 && usable(signal)) return signal;
  }
  return std::nullopt;
}

uint64_t MaskWhileBorrowed(uint64_t original, int report_signal) {
  const uint64_t faults = Bit(SIGSEGV) | Bit(SIGILL) | Bit(SIGFPE) | Bit(SIGTRAP);
  return ~((faults & ~original) | Bit(report_signal));
}

}  // namespace tsc_handoff::attach
