// FakeHostVms: VMs that a test says are there, for HostVms. A port to one answers like that of a
// paused VM whose TSCs are all 0, unless the test says why there is none.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_AGENT_FAKE_HOST_VMS_H_
#define TSC_HANDOFF_SERVER_AGENT_FAKE_HOST_VMS_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/agent/host_vms.h"

namespace tsc_handoff::agent {

class FakePort final : public port::VmPort {
 public:
  absl::StatusOr<port::Capture> ReadAll(port::Hold) override { return port::Capture(); }
  absl::StatusOr<port::Applied> WriteAll(const port::ApplyOrder& order, port::Hold) override {
    return port::Applied{order.vcpus, order.vcpus, {}};
  }
  void SendPermit(const port::Permit&) override {}
  absl::StatusOr<bool> IsPaused() override { return true; }
};

class FakeHostVms final : public HostVms {
 public:
  // What a process has that began as the pid-th one, with this many vCPUs.
  static discovery::FoundVm Vm(pid_t pid, const std::string& vm_id, uint32_t vcpus = 2) {
    discovery::FoundVm vm;
    vm.pid = pid;
    vm.start_time_ticks = static_cast<uint64_t>(1000 + pid);
    vm.uid = 64055;
    vm.vm_id = vm_id;
    vm.descriptors.vm_fd = 10;
    for (uint32_t id = 0; id < vcpus; ++id)
      vm.descriptors.vcpus.push_back({id, static_cast<int>(11 + id)});
    return vm;
  }

  // What is there from now on; tells of it.
  void Set(std::vector<discovery::FoundVm> vms) {
    const std::lock_guard<std::mutex> lock(mutex_);
    vms_ = std::move(vms);
    told_ = true;
    changed_.notify_all();
  }
  void Show(observe::HostView view) {
    const std::lock_guard<std::mutex> lock(mutex_);
    view_ = std::move(view);
  }
  // Why there is no port to the VMs of this process; OK: there is one.
  void Refuse(pid_t pid, absl::Status why) {
    const std::lock_guard<std::mutex> lock(mutex_);
    refusals_[pid] = std::move(why);
  }
  void set_tells_of_starts(bool tells) { tells_of_starts_ = tells; }
  void set_seen_paused(std::optional<bool> paused) { seen_paused_ = paused; }
  std::vector<pid_t> watched() const { return watched_; }

  std::vector<discovery::FoundVm> Find() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return vms_;
  }
  observe::HostView Observe() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return view_;
  }
  std::optional<bool> SeenPaused(const discovery::FoundVm&) override { return seen_paused_; }
  absl::StatusOr<std::unique_ptr<port::VmPort>> Attach(const discovery::FoundVm& vm,
                                                       const std::string&) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto refusal = refusals_.find(vm.pid);
        refusal != refusals_.end() && !refusal->second.ok())
      return refusal->second;
    return std::make_unique<FakePort>();
  }
  bool TellsOfStarts() const override { return tells_of_starts_; }
  void WatchEndsOf(const std::vector<discovery::FoundVm>& vms) override {
    watched_.clear();
    for (const discovery::FoundVm& vm : vms) watched_.push_back(vm.pid);
  }
  bool Wait(std::chrono::milliseconds at_most) override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, at_most, [this] { return told_; });
    return std::exchange(told_, false);
  }
  void Wake() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    told_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool told_ = false;  // guarded by mutex_, as all up to refusals_
  std::vector<discovery::FoundVm> vms_;
  observe::HostView view_;
  std::map<pid_t, absl::Status> refusals_;
  // To be set before a watch starts.
  bool tells_of_starts_ = true;
  std::optional<bool> seen_paused_;
  std::vector<pid_t> watched_;  // the watch's thread's own
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_FAKE_HOST_VMS_H_
