// KVM's structures that end in an array, as the kernel lays them out.
//
// <asm/kvm.h> declares these arrays behind an empty structure, which has no size in C but one byte
// in C++: sizeof, the ioctl numbers made from it, and the offset of the first entry are all wrong
// in a C++ file, and KVM answers EINVAL.
//
// Threading: plain values.
#ifndef TSC_HANDOFF_TESTS_WITNESS_KVM_LISTS_H_
#define TSC_HANDOFF_TESTS_WITNESS_KVM_LISTS_H_

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace tsc_handoff::witness {

// kvm_cpuid2 and kvm_msrs: eight bytes, then the entries.
template <typename Entry, size_t kCapacity>
struct KvmList {
  uint32_t count = 0;
  uint32_t padding = 0;
  Entry entries[kCapacity] = {};
};

using CpuidList = KvmList<kvm_cpuid_entry2, 256>;  // KVM_MAX_CPUID_ENTRIES
using MsrList = KvmList<kvm_msr_entry, 16>;
static_assert(offsetof(CpuidList, entries) == 8 && offsetof(MsrList, entries) == 8);

inline constexpr unsigned long kKvmGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
inline constexpr unsigned long kKvmSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);
inline constexpr unsigned long kKvmGetMsrs = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x88, 8);
inline constexpr unsigned long kKvmSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_KVM_LISTS_H_
