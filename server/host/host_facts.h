// What this host is and what its KVM can do; read once when the agent starts.
//
// Threading: plain value and a function without state.
#ifndef TSC_HANDOFF_SERVER_HOST_HOST_FACTS_H_
#define TSC_HANDOFF_SERVER_HOST_HOST_FACTS_H_

#include <cstdint>
#include <string>

#include "server/time/tsc_scaling.h"

namespace tsc_handoff::host {

struct HostFacts {
  std::string host_name;
  std::string kernel_release;
  std::string boot_id;                 // 16 bytes, or empty when it cannot be read
  time::TscCapability tsc;             // host_khz 0 while KVM is unavailable
  std::string tsc_unstable_reason;     // empty: stable
  std::string kvm_unavailable_reason;  // empty: available
  bool simulated = false;
};

// Where the facts are; another root for tests.
struct HostPaths {
  std::string kvm = "/dev/kvm";
  std::string clocksource = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  std::string cpuinfo = "/proc/cpuinfo";
  std::string boot_id = "/proc/sys/kernel/random/boot_id";
};

// Never fails: what is wrong stands in tsc_unstable_reason and kvm_unavailable_reason, as sentences
// that say what to do.
//   - /dev/kvm missing (module not loaded), not permitted (group kvm), KVM_CREATE_VM refused, no
//     KVM_CAP_VCPU_ATTRIBUTES (kernel before 5.16).
//   - the TSC is unstable when the kernel's clocksource is not "tsc" (the kernel watches the TSC
//   against other clocks,
//     checks it across CPUs, and knows which CPUs keep its rate constant), or when readings on
//     different CPUs go backwards all the same (a thread is moved from CPU to CPU;
//     `MonotonicAcrossCpus`).
// frac_bits: 48 when cpuinfo has vmx, 32 when svm.
HostFacts ReadHostFacts(const HostPaths& paths = {});

}  // namespace tsc_handoff::host

#endif  // TSC_HANDOFF_SERVER_HOST_HOST_FACTS_H_
