// Vmm: a simulated VM's monitor on one host, as the agent sees it through a port: offsets that are
// written all or nothing, the permit to run, an instance of its own, a connection that comes and
// goes.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_VMM_H_
#define TSC_HANDOFF_TESTS_SIMULATE_VMM_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/port/vm_port.h"
#include "server/registry/vm_registry.h"

namespace tsc_handoff::simulate {

struct Vmm {
  std::string vm_id;
  std::string instance;
  uint32_t guest_khz = 0;
  std::vector<uint64_t> offsets;  // per vCPU
  bool awaits = false;
  bool alive = true;
  bool running = false;
  bool kept_paused = false;  // by whoever runs the handoffs

  // The permit, as client/vmm keeps it: as last told; after a registration a VM that does not run
  // waits for the next word.
  bool granted = false;
  bool due = true;
  bool MayResume() const { return alive && granted && !due; }
  // Whether the VM runs, or may at any moment.
  bool Holds() const { return alive && (running || MayResume()); }

  // 0: not connected. A connection's permits arrive in order, also when the agent died meanwhile.
  uint64_t connection = 0;
  std::shared_ptr<registry::RegisteredVm> registered;
  std::deque<port::Permit> inbox;
  // Takes what the agent has sent.
  void ReadInbox();

  // What the VM had before the handoff that works on it, and which that is; nullopt when none does.
  std::optional<std::vector<uint64_t>> before;
  std::string before_of;
  int64_t written_at_ps = 0;
};

using VmmPtr = std::shared_ptr<Vmm>;

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_VMM_H_
