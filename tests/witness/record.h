/*
 * The witness's record: what the guest writes down about its time, in guest memory, where a handoff
 * carries it along. Shared by the guest's assembler (guest.S) and the VMM: numbers first, for both;
 * then the same as C++ structures, which the compiler checks against the numbers.
 *
 * Threading: the guest writes under the guest's own lock while the VM runs; the VMM may then read
 * single fields, which are aligned, and reads a consistent whole only while the VM is paused. The
 * VMM writes only while it is paused.
 */
#ifndef TSC_HANDOFF_TESTS_WITNESS_RECORD_H_
#define TSC_HANDOFF_TESTS_WITNESS_RECORD_H_

/* Guest-physical addresses; the guest maps the first 2 MiB one to one, of which 1 MiB is memory. */
#define WITNESS_MEMORY_SIZE 0x100000
#define WITNESS_PML4_GPA 0x1000
#define WITNESS_PDPT_GPA 0x2000
#define WITNESS_PD_GPA 0x3000
#define WITNESS_CODE_GPA 0x8000
#define WITNESS_SHARED_GPA 0x10000
#define WITNESS_VCPUS_GPA 0x11000
#define WITNESS_MAX_VCPUS 64

/* Changes whenever the layout does: the guest of a saved file and the VMM that loads it must agree.
 */
#define WITNESS_RECORD_VERSION 1

/*
 * Ports. A beat says that the vCPU is alive. Yield asks the VMM to let another thread run, because
 * the lock's holder may be a vCPU whose thread has been scheduled away: without it 64 vCPUs on 2
 * processors spin whole time slices.
 */
#define WITNESS_PORT_BEAT 0x1000
#define WITNESS_PORT_YIELD 0x1001

/* Rounds between two beats, and attempts at the lock between two yields. */
#define WITNESS_BEAT_ROUNDS 1000
#define WITNESS_LOCK_ATTEMPTS 64

/* Offsets in WitnessShared. */
#define WITNESS_S_CHECK_ACROSS 0x0c
#define WITNESS_S_LOCK 0x40
#define WITNESS_S_LAST_ANY_VALID 0x44
#define WITNESS_S_LAST_ANY 0x48

/* Offsets in WitnessVcpu. */
#define WITNESS_V_SIZE 0x100
#define WITNESS_V_HAS_ADJUST 0x04
#define WITNESS_V_PHASE 0x08
#define WITNESS_V_ITERATIONS 0x10
#define WITNESS_V_LAST_TSC 0x18
#define WITNESS_V_BACKWARD_STEPS 0x20
#define WITNESS_V_BACKWARD_LARGEST 0x28
#define WITNESS_V_FORWARD_LARGEST 0x30
#define WITNESS_V_WARPS 0x38
#define WITNESS_V_WARP_LARGEST 0x40
#define WITNESS_V_TSC_ADJUST 0x48
#define WITNESS_V_ADJUST_READS 0x50
#define WITNESS_V_YIELDS 0x58
#define WITNESS_V_DEADLINE_PERIOD 0x60
#define WITNESS_V_DEADLINE_ARMED 0x68
#define WITNESS_V_DEADLINE_FIRES 0x70
#define WITNESS_V_DEADLINE_LATE_LARGEST 0x78
#define WITNESS_V_DEADLINE_EARLY 0x80
#define WITNESS_V_DEADLINE_EARLY_LARGEST 0x88

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace tsc_handoff::witness {

// What all vCPUs share. "magic" and what follows it up to the lock is written by the VMM before the
// first run.
struct WitnessShared {
  uint32_t magic;
  uint32_t version;
  uint32_t vcpu_count;
  uint32_t check_across;  // 1: compare across vCPUs, each TSC less the vCPU's phase_ticks
  uint8_t reserved[48];
  uint32_t lock;            // 1: held. A cache line of its own
  uint32_t last_any_valid;  // 0 until a vCPU has stored last_any_ticks
  uint64_t last_any_ticks;  // the last reading of any vCPU, less its phase
};

inline constexpr uint32_t kRecordMagic = 0x31545357;  // "WST1"

// What one vCPU saw. Ticks are of its own TSC as RDTSC gave them, modulo 2^64.
struct WitnessVcpu {
  uint32_t index;                   // VMM: position, not id
  uint32_t has_adjust;              // CPUID offers IA32_TSC_ADJUST
  uint64_t phase_ticks;             // VMM: how far this TSC was set ahead of vCPU 0's
  uint64_t iterations;              // rounds of the loop
  uint64_t last_tsc_ticks;          // the last reading
  uint64_t backward_steps;          // readings below this vCPU's own last one
  uint64_t backward_largest_ticks;  //
  uint64_t forward_largest_ticks;   // the longest time between two readings: shows the blackout
  uint64_t warps;                   // readings below the last one of any vCPU
  uint64_t warp_largest_ticks;      //
  uint64_t tsc_adjust_ticks;        // IA32_TSC_ADJUST as RDMSR gave it at the last beat
  uint64_t adjust_reads;            // how often it was read
  uint64_t yields;                  // how often the lock took too long
  uint64_t deadline_period_ticks;   // VMM: 0, or arm TSC_DEADLINE this far ahead, again and again
  uint64_t deadline_armed_ticks;    // the value last written to IA32_TSC_DEADLINE
  uint64_t deadline_fires;          // how often it was found fired
  uint64_t deadline_late_largest_ticks;   // how long after its moment it was found so
  uint64_t deadline_early;                // how often before its moment
  uint64_t deadline_early_largest_ticks;  // KVM fires up to 5 us early (lapic_timer_advance_ns);
                                          // more is a fault
  uint8_t reserved[0x70];
};

static_assert(sizeof(WitnessVcpu) == WITNESS_V_SIZE);
static_assert(offsetof(WitnessShared, check_across) == WITNESS_S_CHECK_ACROSS);
static_assert(offsetof(WitnessShared, lock) == WITNESS_S_LOCK);
static_assert(offsetof(WitnessShared, last_any_valid) == WITNESS_S_LAST_ANY_VALID);
static_assert(offsetof(WitnessShared, last_any_ticks) == WITNESS_S_LAST_ANY);
static_assert(offsetof(WitnessVcpu, has_adjust) == WITNESS_V_HAS_ADJUST);
static_assert(offsetof(WitnessVcpu, phase_ticks) == WITNESS_V_PHASE);
static_assert(offsetof(WitnessVcpu, iterations) == WITNESS_V_ITERATIONS);
static_assert(offsetof(WitnessVcpu, last_tsc_ticks) == WITNESS_V_LAST_TSC);
static_assert(offsetof(WitnessVcpu, backward_steps) == WITNESS_V_BACKWARD_STEPS);
static_assert(offsetof(WitnessVcpu, backward_largest_ticks) == WITNESS_V_BACKWARD_LARGEST);
static_assert(offsetof(WitnessVcpu, forward_largest_ticks) == WITNESS_V_FORWARD_LARGEST);
static_assert(offsetof(WitnessVcpu, warps) == WITNESS_V_WARPS);
static_assert(offsetof(WitnessVcpu, warp_largest_ticks) == WITNESS_V_WARP_LARGEST);
static_assert(offsetof(WitnessVcpu, tsc_adjust_ticks) == WITNESS_V_TSC_ADJUST);
static_assert(offsetof(WitnessVcpu, adjust_reads) == WITNESS_V_ADJUST_READS);
static_assert(offsetof(WitnessVcpu, yields) == WITNESS_V_YIELDS);
static_assert(offsetof(WitnessVcpu, deadline_period_ticks) == WITNESS_V_DEADLINE_PERIOD);
static_assert(offsetof(WitnessVcpu, deadline_armed_ticks) == WITNESS_V_DEADLINE_ARMED);
static_assert(offsetof(WitnessVcpu, deadline_fires) == WITNESS_V_DEADLINE_FIRES);
static_assert(offsetof(WitnessVcpu, deadline_late_largest_ticks) ==
              WITNESS_V_DEADLINE_LATE_LARGEST);
static_assert(offsetof(WitnessVcpu, deadline_early) == WITNESS_V_DEADLINE_EARLY);
static_assert(offsetof(WitnessVcpu, deadline_early_largest_ticks) ==
              WITNESS_V_DEADLINE_EARLY_LARGEST);
static_assert(sizeof(WitnessShared) <= WITNESS_VCPUS_GPA - WITNESS_SHARED_GPA);
static_assert(WITNESS_VCPUS_GPA + WITNESS_MAX_VCPUS * WITNESS_V_SIZE <= WITNESS_MEMORY_SIZE);

// The guest's code (guest.S), position independent.
extern "C" const uint8_t witness_guest_begin[];
extern "C" const uint8_t witness_guest_end[];

}  // namespace tsc_handoff::witness

#endif  // __ASSEMBLER__
#endif  // TSC_HANDOFF_TESTS_WITNESS_RECORD_H_
