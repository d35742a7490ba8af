// One thread per vCPU, which all run or are all out of KVM_RUN.
//
// Pause is free of races by KVM's immediate_exit: the signal's handler, in the vCPU's own thread,
// sets it, so that a signal that comes just before KVM_RUN makes that KVM_RUN return at once
// instead of being lost.
//
// Threading: Start, Pause, Run and Stop from one thread; the counters from any.
#ifndef TSC_HANDOFF_TESTS_WITNESS_RUNNER_H_
#define TSC_HANDOFF_TESTS_WITNESS_RUNNER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "tests/witness/machine.h"

namespace tsc_handoff::witness {

struct RunnerConfig {
  int nice = 0;  // of the vCPUs' threads
  // After every beat each vCPU rests until the next multiple of this. 64 vCPUs that spin without
  // rest leave nothing of a small node's processors to the agent and to whoever wants to pause
  // them.
  std::chrono::microseconds nap{0};
};

class Runner {
 public:
  // `on_failure` gets a sentence, from a vCPU's thread, when a guest stops for a reason that it
  // should not have; that vCPU stays out of KVM_RUN from then on.
  Runner(const Machine& machine, const RunnerConfig& config,
         std::function<void(const std::string&)> on_failure);

  // Stops the threads.
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Lets all vCPUs run.
  void Run();

  // Returns when every vCPU is out of KVM_RUN with its last I/O instruction completed, so that its
  // registers may be read. DEADLINE_EXCEEDED names the vCPUs that are not, after 10 s; they are
  // still asked to leave.
  absl::Status Pause();

  bool running() const { return wanted_ == Wanted::kRun; }

  // Signs of life: how often vCPU `index` has come by at the VMM.
  uint64_t beats(size_t index) const { return workers_[index]->beats; }

 private:
  enum class Wanted { kPark, kRun, kQuit };

  struct Worker {
    const Vcpu* vcpu = nullptr;
    std::thread thread;
    std::atomic<uint64_t> beats = 0;
    bool parked = false;  // guarded by mutex_
    // Of the vCPU's thread alone.
    bool io_pending = false;
    bool failed = false;
  };

  void Body(Worker* worker);
  bool Park(Worker* worker);
  void RunOnce(Worker* worker);
  void CompleteIo(Worker* worker);
  bool HandleIo(Worker* worker);
  void Nap();
  void Fail(Worker* worker, const std::string& why);
  void KickAll();

  const RunnerConfig config_;
  const std::function<void(const std::string&)> on_failure_;
  std::vector<std::unique_ptr<Worker>> workers_;  // constant after construction

  std::mutex mutex_;
  std::condition_variable wanted_changed_;      // wakes the vCPUs' threads
  std::condition_variable all_parked_;          // wakes Pause
  size_t parked_count_ = 0;                     // guarded by mutex_
  std::atomic<Wanted> wanted_ = Wanted::kPark;  // written with mutex_ held
};

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_RUNNER_H_
