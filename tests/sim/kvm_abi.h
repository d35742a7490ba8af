// linux/kvm.h for C++. The kernel's macro for flexible arrays puts an empty structure before them;
// that has no size in C and one byte in C++. So in C++ kvm_msrs and kvm_cpuid2 are too long, their
// entries are misplaced, and KVM_GET_MSRS, KVM_SET_MSRS and KVM_SET_CPUID2, which contain the
// length, are other ioctls. Include this instead.
#ifndef TSC_HANDOFF_TESTS_SIM_KVM_ABI_H_
#define TSC_HANDOFF_TESTS_SIM_KVM_ABI_H_

#include <linux/stddef.h>

#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[]

#include <linux/kvm.h>

static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_cpuid2) == 8);

#endif  // TSC_HANDOFF_TESTS_SIM_KVM_ABI_H_
