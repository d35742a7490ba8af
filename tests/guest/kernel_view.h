// What the guest's kernel thinks of its TSC, and how its MSRs are reached.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_TESTS_GUEST_KERNEL_VIEW_H_
#define TSC_HANDOFF_TESTS_GUEST_KERNEL_VIEW_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSR_IA32_TSC_ADJUST 0x3b

// The first line of a file, empty when it cannot be read.
void kernel_line_of(const char* path, char* line, size_t size);

// The last line of the kernel's log that says of the TSC that it is unstable; empty when none does.
void kernel_unstable_line(char* line, size_t size);

// Adds to an MSR of a CPU. False with errno set.
bool kernel_add_to_msr(int cpu, uint32_t msr, uint64_t addend);
bool kernel_read_msr(int cpu, uint32_t msr, uint64_t* value);

#endif  // TSC_HANDOFF_TESTS_GUEST_KERNEL_VIEW_H_
