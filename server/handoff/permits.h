// Permits: who may run on this host, told to the VMMs, and looked after.
//
// What decides is the rule (permit_rule.h) on what is durable (the table); on top of it a VM has no
// permit while a handoff of it begins, and none is given while the journal cannot be used.
//
// Threading: thread-safe. A permit is decided and sent under one lock, so that VMMs get them in the
// order in which they were decided.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_PERMITS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_PERMITS_H_

#include <functional>
#include <mutex>
#include <set>
#include <string>

#include "server/handoff/handoff_table.h"
#include "server/journal/journal.h"
#include "server/port/vm_port.h"
#include "server/registry/vm_registry.h"

namespace tsc_handoff::handoff {

// How a VM stands here.
struct VmStanding {
  port::Permit permit;
  std::string handoff_id;
};

class Permits {
 public:
  // A VM was seen running without a permit; once per time that it does.
  using OnViolation = std::function<void(const std::string& vm_id, const port::Permit&)>;

  // All outlive this. `on_violation` may be empty.
  Permits(const journal::Journal& journal, const HandoffTable& table,
          const registry::VmRegistry& registry, OnViolation on_violation)
      : journal_(journal),
        table_(table),
        registry_(registry),
        on_violation_(std::move(on_violation)) {}

  VmStanding StandingOf(const registry::RegisteredVm& vm) const;
  // By the rule alone, were it in no handoff.
  port::Permit OutsideOfHandoffs(const registry::RegisteredVm& vm) const;

  // Tells the VMM how its VM stands; by id: if it is there.
  void Send(registry::RegisteredVm& vm);
  void Send(const std::string& vm_id);

  // While it lives, the VM has no permit, whatever the records say: its VMM is about to give it up,
  // or has, and the record is not written yet.
  class Hold {
   public:
    Hold(Permits& permits, std::string vm_id);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    // Until the agent starts again: it cannot be known what the journal holds.
    void KeepForGood() { for_good_ = true; }

   private:
    Permits& permits_;
    const std::string vm_id_;
    bool for_good_ = false;
  };

  // Asks the VMMs that have no permit whether their VMs run. To be called by one thread at a time.
  void LookForViolations();

 private:
  VmStanding StandingOfLocked(const registry::RegisteredVm& vm) const;
  void SendLocked(registry::RegisteredVm& vm);

  const journal::Journal& journal_;
  const HandoffTable& table_;
  const registry::VmRegistry& registry_;
  const OnViolation on_violation_;

  mutable std::mutex mutex_;    // held while a permit is decided and sent
  std::set<std::string> held_;  // vm_ids; guarded by mutex_

  std::set<std::string> violators_;  // vm_ids; LookForViolations' own
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_PERMITS_H_
