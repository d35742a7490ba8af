// VmEvents: tells when it is worth looking for VMs again, so that nobody has to look all the time.
//
// Starts: KVM makes a directory in debugfs for each VM, and one in that for each vCPU, and debugfs
// tells inotify. (The kernel's process events, the other way, need CAP_NET_ADMIN and wake for every
// process of the host.) Ends: a pidfd becomes readable when its process ends; the directory's end
// comes as well, but not while anybody holds a descriptor of the VM, as the agent does.
//
// An event is a hint: a VM's descriptor is there only shortly after its directory.
//
// Threading: one thread's, but for Wake, which is any thread's.
#ifndef TSC_HANDOFF_SERVER_DISCOVERY_VM_EVENTS_H_
#define TSC_HANDOFF_SERVER_DISCOVERY_VM_EVENTS_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff::discovery {

// A process; the two together never come again.
struct ProcessId {
  pid_t pid = 0;
  uint64_t start_time_ticks = 0;
  bool operator<(const ProcessId& other) const {
    return std::tie(pid, start_time_ticks) < std::tie(other.pid, other.start_time_ticks);
  }
};

class VmEvents {
 public:
  // `proc` and `debugfs_kvm` as in discovery::Roots.
  VmEvents(std::string proc, std::string debugfs_kvm);

  // Whether starts are told. Where the directory is not there (yet), they are not.
  bool TellsOfStarts() const { return watch_ >= 0; }

  // These, and no others, are watched for their ends.
  void WatchEndsOf(const std::vector<ProcessId>& processes);

  // Waits until a VM or vCPU has started, one of the processes has ended, or Wake was called; true
  // then. False when nothing came for this long.
  bool Wait(std::chrono::milliseconds at_most);
  void Wake();

 private:
  void TryToWatch();
  // Whether it is another process than was meant, or has ended.
  bool HasEnded(const ProcessId& process) const;
  void WatchVcpus();
  // Takes what has come; whether it is worth a look.
  bool Drain();
  bool DrainDirectories();

  const std::string proc_;
  const std::string debugfs_kvm_;
  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd inotify_;
  int watch_ = -1;      // of the directory of all VMs; -1: it is not there
  bool ended_ = false;  // before it could be watched
  std::map<ProcessId, UniqueFd> pidfds_;
};

}  // namespace tsc_handoff::discovery

#endif  // TSC_HANDOFF_SERVER_DISCOVERY_VM_EVENTS_H_
