// VmWatch: keeps the registry in line with the VMs of this host that nobody registered, and looks
// at all VMs' TSCs now and then, without touching them.
//
// It looks for VMs when something tells that one started or ended (HostVms::Wait), soon again for
// as long as it finds changes, since a VM's vCPUs are made one by one, and now and then in any
// case.
//
// Threading: one thread of its own, which calls everything in Parts; Registered is any thread's.
#ifndef TSC_HANDOFF_SERVER_AGENT_VM_WATCH_H_
#define TSC_HANDOFF_SERVER_AGENT_VM_WATCH_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "server/agent/found_vms.h"
#include "server/agent/host_vms.h"
#include "server/observe/observations.h"
#include "server/registry/vm_registry.h"

namespace tsc_handoff::agent {

// A spread that changed while the agent wrote nothing.
struct PhaseEvent {
  std::string vm_id;  // empty where no VM is listed for it
  observe::SpreadChange change;
};

class VmWatch {
 public:
  using Clock = std::chrono::steady_clock;

  struct Parts {
    HostVms& host;
    registry::VmRegistry& registry;
    FoundVms& found;
    observe::Observations& observations;
    std::function<int64_t()> realtime_ns;
    std::function<void(const PhaseEvent&)> on_phase_event;
    std::chrono::nanoseconds observe_every{std::chrono::seconds(5)};
  };

  // All parts outlive this.
  explicit VmWatch(Parts parts);
  ~VmWatch();
  VmWatch(const VmWatch&) = delete;
  VmWatch& operator=(const VmWatch&) = delete;

  // One round, with what is due: `told` when something tells of a change. Returns when the next one
  // is due at the latest. Public for tests; a watch that was started calls it by itself.
  Clock::time_point Round(Clock::time_point now, bool told);

  // Returns when the VMs that are there already are known.
  void Start();
  // To be called when a VMM has registered by itself.
  void Registered(const registry::VmIdentity& identity);

 private:
  // Whether anything changed.
  bool LookForVms();
  void Observe();
  observe::WriteCounts CountWrites() const;
  std::string NameOf(const observe::VmKey& key) const;

  const Parts parts_;
  // The watch's thread's own.
  Clock::time_point find_at_;
  Clock::time_point observe_at_;

  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_VM_WATCH_H_
