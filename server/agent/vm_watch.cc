#include "server/agent/vm_watch.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace tsc_handoff::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// After a change: a VM's descriptors and vCPUs come one after another.
constexpr milliseconds kSettle(200);
// In case nothing tells of a change. Where starts are told, what may be missed is a vCPU that is
// added later; where not, /proc is searched, which costs some ms.
constexpr seconds kRescan(10);
constexpr seconds kRescanBlind(2);

pid_t ProcessOf(const registry::VmIdentity& identity) {
  return identity.vmm_pid == 0 ? getpid() : identity.vmm_pid;
}

}  // namespace

VmWatch::VmWatch(Parts parts) : parts_(std::move(parts)) {}

VmWatch::~VmWatch() {
  stopping_ = true;
  parts_.host.Wake();
  if (thread_.joinable()) thread_.join();
}

void VmWatch::Start() {
  thread_ = std::thread([this, next = Round(Clock::now(), true)]() mutable {
    while (!stopping_) {
      const auto left = std::chrono::ceil<milliseconds>(next - Clock::now());
      const bool told = parts_.host.Wait(std::max(left, milliseconds(0)));
      if (!stopping_) next = Round(Clock::now(), told);
    }
  });
}

VmWatch::Clock::time_point VmWatch::Round(Clock::time_point now, bool told) {
  if (told || now >= find_at_) {
    const bool changed = LookForVms();
    const auto idle = parts_.host.TellsOfStarts() ? kRescan : kRescanBlind;
    find_at_ = now + (told || changed ? Clock::duration(kSettle) : Clock::duration(idle));
  }
  if (now >= observe_at_) {
    Observe();
    observe_at_ = now + std::chrono::duration_cast<Clock::duration>(parts_.observe_every);
  }
  return std::min(find_at_, observe_at_);
}

bool VmWatch::LookForVms() {
  std::vector<discovery::FoundVm> found = parts_.host.Find();
  parts_.host.WatchEndsOf(found);
  return parts_.found.Update(std::move(found));
}

void VmWatch::Observe() {
  observe::Look look;
  look.writes_before = CountWrites();
  look.view = parts_.host.Observe();
  look.observed_at_ns = parts_.realtime_ns();
  look.writes_after = CountWrites();
  for (const observe::SpreadChange& change : parts_.observations.Tell(look))
    parts_.on_phase_event({NameOf(change.vm), change});
  parts_.found.NoteRunStates(
      [this](const discovery::FoundVm& vm) { return parts_.host.SeenPaused(vm); });
}

observe::WriteCounts VmWatch::CountWrites() const {
  observe::WriteCounts counts;
  for (const auto& vm : parts_.registry.List("", parts_.registry.size()))
    counts[ProcessOf(vm->identity())] += vm->writes();
  return counts;
}

std::string VmWatch::NameOf(const observe::VmKey& key) const {
  std::string only;
  for (const auto& vm : parts_.registry.List("", parts_.registry.size())) {
    const registry::VmIdentity& identity = vm->identity();
    if (ProcessOf(identity) != key.pid) continue;
    if (identity.vmm_vm_fd == key.fd) return identity.vm_id;
    if (identity.vmm_vm_fd < 0) only = identity.vm_id;
  }
  return only;
}

void VmWatch::Registered(const registry::VmIdentity& identity) {
  parts_.found.GiveWayTo(ProcessOf(identity));
}

}  // namespace tsc_handoff::agent
