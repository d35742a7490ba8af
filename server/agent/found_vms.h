// FoundVms: keeps the registry in line with the VMs that were found on this host.
//
// A VMM that registers speaks for itself, and for all VMs of its process: what was found there is
// not shown. Everything else that was found is: reachable by a port to it, or, where there can be
// none, with the reason why. Two VMs that claim one id: it is that of the process that began
// first; the other is shown under the name of its process and cannot be reached.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_AGENT_FOUND_VMS_H_
#define TSC_HANDOFF_SERVER_AGENT_FOUND_VMS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "server/discovery/kvm_processes.h"
#include "server/port/vm_port.h"
#include "server/registry/vm_registry.h"

namespace tsc_handoff::agent {

class FoundVms {
 public:
  struct Parts {
    registry::VmRegistry& registry;
    std::string boot_id;  // makes names of processes unique for ever
    // See HostVms::Attach.
    std::function<absl::StatusOr<std::unique_ptr<port::VmPort>>(const discovery::FoundVm&,
                                                                const std::string& vm_id)>
        attach;
    std::function<int64_t()> realtime_ns;  // CLOCK_REALTIME
    // OPTIONAL. A VM came or went, and how; with the lock held, so it must be quick.
    std::function<void(const registry::VmIdentity&, const std::string& what)> on_event = {};
  };

  // All parts outlive this.
  explicit FoundVms(Parts parts) : parts_(std::move(parts)) {}

  // `found` are all VMs of this host. Returns whether anything changed.
  bool Update(std::vector<discovery::FoundVm> found);

  // Notes whether each VM is paused, as `seen_paused` says; what it does not say stays as it was.
  void NoteRunStates(
      const std::function<std::optional<bool>(const discovery::FoundVm&)>& seen_paused);

  // To be called when a VMM has registered: what was found in its process is forgotten at once, so
  // that nobody reaches one VM in two ways.
  void GiveWayTo(pid_t pid);

 private:
  // A process by pid and start time, and its VM.
  using Key = std::tuple<pid_t, uint64_t, int>;
  struct Entry {
    discovery::FoundVm found;
    std::shared_ptr<registry::RegisteredVm> vm;
  };

  std::string NameByProcess(const discovery::FoundVm& found) const;
  std::shared_ptr<registry::RegisteredVm> Make(const discovery::FoundVm& found,
                                               const std::string& vm_id) const;
  std::shared_ptr<registry::RegisteredVm> MakeUnreachable(const discovery::FoundVm& found,
                                                          const std::string& vm_id,
                                                          absl::Status why) const;
  registry::VmIdentity IdentityOf(const discovery::FoundVm& found, const std::string& vm_id) const;
  // Under its name or, where another has that, under its process's; null when it has ended.
  // `present` is what is registered for it, if anything.
  std::shared_ptr<registry::RegisteredVm> MakeUnderFreeId(const discovery::FoundVm& found,
                                                          const Entry* present) const;
  bool IsThere(const Entry& entry) const;
  void Remove(const Entry& entry, const std::string& why);
  bool RemoveAllBut(const std::map<Key, discovery::FoundVm>& wanted);
  bool Offer(const Key& key, const discovery::FoundVm& found);
  void Tell(const registry::VmIdentity& identity, const std::string& what) const;

  const Parts parts_;
  std::mutex mutex_;
  std::map<Key, Entry> entries_;               // guarded by mutex_
  std::map<Key, std::string> not_registered_;  // why; guarded by mutex_
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_FOUND_VMS_H_
