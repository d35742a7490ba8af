// One thread for each CPU, pinned, that reads the TSC under a lock as the kernel's own check for
// warps does (arch/x86/kernel/tsc_sync.c): whoever takes the lock must not read less than who had
// it before. A thread also notices when its own TSC goes back.
//
// A CPU whose TSC was moved against the others on purpose has that much subtracted, so that a warp
// means that the phase is not any more what it was made to be.
//
// Threading: one controlling thread.
#ifndef TSC_HANDOFF_TESTS_GUEST_WATCH_H_
#define TSC_HANDOFF_TESTS_GUEST_WATCH_H_

#include <stdbool.h>
#include <stdint.h>

#define WATCH_MAX_CPUS 64

struct watch_report {
  uint64_t rounds;        // reads of all threads together
  uint64_t rounds_least;  // of the thread that has read least
  uint64_t warps;
  uint64_t warp_largest_ticks;
  uint64_t backward_steps;  // of one CPU's TSC, seen by itself
};

// Starts a thread on each of `cpus` CPUs. False with errno set when one cannot be started or
// pinned.
bool watch_start(int cpus);

struct watch_report watch_read(void);

// Forgets what was counted.
void watch_reset(void);

// Runs `move(argument)`, which changes the TSC of `cpu`, while no thread reads; when it returns
// true, CPU `cpu` is expected `ticks` further ahead from now on.
bool watch_move(int cpu, int64_t ticks, bool (*move)(void*), void* argument);

// How long each thread rests between two bursts of reading; 2 ms until set.
void watch_rest(uint32_t rest_us);

// Expects all TSCs equal from now on.
void watch_expect_equal(void);

#endif  // TSC_HANDOFF_TESTS_GUEST_WATCH_H_
