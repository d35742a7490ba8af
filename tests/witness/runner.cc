#include "tests/witness/runner.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/witness/vcpu_state.h"

namespace tsc_handoff::witness {
namespace {

// Emulated nodes are slow; a vCPU that has not left by then will not.
constexpr std::chrono::seconds kPauseDeadline(10);
constexpr int kKickSignal = SIGUSR1;

// The kvm_run of the vCPU whose thread this is.
thread_local kvm_run* this_threads_run = nullptr;

void HandleKick(int) {
  if (this_threads_run != nullptr) this_threads_run->immediate_exit = 1;
}

}  // namespace

Runner::Runner(const Machine& machine, const RunnerConfig& config,
               std::function<void(const std::string&)> on_failure)
    : config_(config), on_failure_(std::move(on_failure)) {
  struct sigaction action = {};
  action.sa_handler = HandleKick;  // without SA_RESTART: KVM_RUN has to return
  sigaction(kKickSignal, &action, nullptr);
  for (const Vcpu& vcpu : machine.vcpus()) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->vcpu = &vcpu;
  }
  for (auto& worker : workers_) worker->thread = std::thread(&Runner::Body, this, worker.get());
}

Runner::~Runner() {
  {
    std::lock_guard lock(mutex_);
    wanted_ = Wanted::kQuit;
  }
  wanted_changed_.notify_all();
  KickAll();
  for (auto& worker : workers_) worker->thread.join();
}

void Runner::Run() {
  {
    std::lock_guard lock(mutex_);
    // From here on they do not count as parked, even those whose thread has yet to wake up.
    for (auto& worker : workers_) worker->parked = false;
    parked_count_ = 0;
    wanted_ = Wanted::kRun;
  }
  wanted_changed_.notify_all();
}

absl::Status Runner::Pause() {
  {
    std::lock_guard lock(mutex_);
    wanted_ = Wanted::kPark;
  }
  wanted_changed_.notify_all();
  KickAll();
  std::unique_lock lock(mutex_);
  if (all_parked_.wait_for(lock, kPauseDeadline,
                           [this] { return parked_count_ == workers_.size(); })) {
    return absl::OkStatus();
  }
  std::string late;
  for (auto& worker : workers_) {
    if (!worker->parked) absl::StrAppend(&late, late.empty() ? "" : ", ", worker->vcpu->id);
  }
  return absl::DeadlineExceededError(
      absl::StrCat("vCPUs still in KVM_RUN after ", kPauseDeadline.count(), " s: ", late));
}

void Runner::KickAll() {
  for (auto& worker : workers_) pthread_kill(worker->thread.native_handle(), kKickSignal);
}

void Runner::Body(Worker* worker) {
  this_threads_run = worker->vcpu->run;
  pthread_setname_np(pthread_self(), absl::StrCat("vcpu ", worker->vcpu->id).c_str());
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), config_.nice);
  for (;;) {
    if (wanted_ == Wanted::kRun && !worker->failed) {
      RunOnce(worker);
      continue;
    }
    CompleteIo(worker);
    if (!Park(worker)) return;
  }
}

// Returns false when the thread is to end.
bool Runner::Park(Worker* worker) {
  std::unique_lock lock(mutex_);
  wanted_changed_.wait(lock, [&] {
    // Looked at at every wake-up: a Pause may follow a Run before this thread has woken up, and a
    // failed vCPU's thread stays here for both.
    if (wanted_ == Wanted::kPark && !worker->parked) {
      worker->parked = true;
      if (++parked_count_ == workers_.size()) all_parked_.notify_one();
    }
    return wanted_ == Wanted::kQuit || (wanted_ == Wanted::kRun && !worker->failed);
  });
  return wanted_ != Wanted::kQuit;
}

void Runner::RunOnce(Worker* worker) {
  kvm_run* run = worker->vcpu->run;
  // Cleared before wanted_ is looked at again: whoever changes wanted_ kicks afterwards.
  run->immediate_exit = 0;
  if (wanted_ != Wanted::kRun) return;
  worker->io_pending = false;
  if (ioctl(worker->vcpu->fd, KVM_RUN, 0) != 0) {
    if (errno != EINTR && errno != EAGAIN)
      Fail(worker, absl::StrCat("KVM_RUN: ", std::strerror(errno)));
    return;
  }
  if (run->exit_reason == KVM_EXIT_INTR) return;
  if (run->exit_reason == KVM_EXIT_IO && HandleIo(worker)) return;
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      return Fail(worker,
                  absl::StrCat("I/O on port ", run->io.port, ", which the guest does not use"));
    case KVM_EXIT_SHUTDOWN:
      return Fail(worker,
                  "shutdown: an exception in the guest (on AMD KVM has reset its registers)");
    case KVM_EXIT_FAIL_ENTRY:
      return Fail(worker, absl::StrCat("entry failed, hardware reason ",
                                       run->fail_entry.hardware_entry_failure_reason));
    case KVM_EXIT_INTERNAL_ERROR:
      return Fail(worker, absl::StrCat("KVM internal error, suberror ", run->internal.suberror));
    default:
      return Fail(worker, absl::StrCat("unexpected exit reason ", run->exit_reason));
  }
}

bool Runner::HandleIo(Worker* worker) {
  const kvm_run* run = worker->vcpu->run;
  if (run->io.direction != KVM_EXIT_IO_OUT) return false;
  worker->io_pending = true;
  if (run->io.port == WITNESS_PORT_BEAT) {
    ++worker->beats;
    Nap();
    return true;
  }
  if (run->io.port == WITNESS_PORT_YIELD) {
    sched_yield();
    return true;
  }
  return false;
}

// Rests until the next multiple of the nap's length, so that all vCPUs wake up together: only vCPUs
// that run at the same time take turns at the lock fast enough to see a small error of phase. Ends
// early when the vCPUs are wanted elsewhere.
void Runner::Nap() {
  if (config_.nap.count() == 0) return;
  const auto now = std::chrono::steady_clock::now();
  const auto until = now + config_.nap - now.time_since_epoch() % config_.nap;
  std::unique_lock lock(mutex_);
  wanted_changed_.wait_until(lock, until, [this] { return wanted_ != Wanted::kRun; });
}

// KVM finishes an I/O instruction, that is moves RIP behind it, only at the next KVM_RUN.
void Runner::CompleteIo(Worker* worker) {
  if (!worker->io_pending) return;
  worker->io_pending = false;
  worker->vcpu->run->immediate_exit = 1;
  if (ioctl(worker->vcpu->fd, KVM_RUN, 0) == 0 || errno != EINTR) {
    Fail(worker, "KVM_RUN with immediate_exit did not return with EINTR");
  }
}

void Runner::Fail(Worker* worker, const std::string& why) {
  worker->failed = true;
  on_failure_(absl::StrCat("vCPU ", worker->vcpu->id, " stopped: ", why, "; ",
                           DescribeRegisters(*worker->vcpu)));
}

}  // namespace tsc_handoff::witness
