// LinuxHostVms: the VMs of this host through /proc, debugfs and ptrace.
//
// Threading: see HostVms.
#ifndef TSC_HANDOFF_SERVER_AGENT_LINUX_HOST_VMS_H_
#define TSC_HANDOFF_SERVER_AGENT_LINUX_HOST_VMS_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/agent/host_vms.h"
#include "server/discovery/attach_rules.h"
#include "server/discovery/vm_events.h"
#include "server/discovery/vm_id_rule.h"
#include "server/port/descriptor_check.h"

namespace tsc_handoff::agent {

struct LinuxHostVmsOptions {
  discovery::Roots roots = {};
  discovery::AttachRules rules = {};
  bool allow_seccomp = false;  // attach in spite of a seccomp filter
  bool observe = true;
};

class LinuxHostVms final : public HostVms {
 public:
  // Before each attach, for the log: whom, and on whose thread.
  using OnAttach =
      std::function<void(const discovery::FoundVm& vm, const std::string& vm_id, pid_t tid)>;

  LinuxHostVms(LinuxHostVmsOptions options, discovery::VmIdRule rule, OnAttach on_attach);

  std::vector<discovery::FoundVm> Find() override;
  observe::HostView Observe() override;
  std::optional<bool> SeenPaused(const discovery::FoundVm& vm) override;
  absl::StatusOr<std::unique_ptr<port::VmPort>> Attach(const discovery::FoundVm& vm,
                                                       const std::string& vm_id) override;
  bool TellsOfStarts() const override { return events_.TellsOfStarts(); }
  void WatchEndsOf(const std::vector<discovery::FoundVm>& vms) override;
  bool Wait(std::chrono::milliseconds at_most) override { return events_.Wait(at_most); }
  void Wake() override { events_.Wake(); }

 private:
  const LinuxHostVmsOptions options_;
  const discovery::VmIdRule rule_;
  const OnAttach on_attach_;
  port::KvmDescriptorCheck check_;
  discovery::VmEvents events_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_LINUX_HOST_VMS_H_
