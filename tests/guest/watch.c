#include "tests/guest/watch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <x86intrin.h>

// A thread reads so often and rests then: all of them together must not starve a small host, and
// have to meet at the lock all the same. By number and not by time: one whose CPU was taken from it
// for a while goes on, and so meets those that had it meanwhile.
#define BURST_LOOKS 2000
#define FIRST_REST_US 2000
// A thread whose lock's holder is not running does better to let it.
#define SPINS_BEFORE_YIELD 2000

struct cpu {
  pthread_t thread;
  int number;
  uint64_t own_last_ticks;  // of the thread; 0: none since the last reset
};

static struct cpu cpus[WATCH_MAX_CPUS];
static int cpu_count;
static _Atomic uint32_t rest_us = FIRST_REST_US;

static atomic_flag lock = ATOMIC_FLAG_INIT;
// All below: guarded by the lock.
static uint64_t last_ticks;  // what the last holder read, corrected
static bool last_valid;
static int64_t ahead_ticks[WATCH_MAX_CPUS];
static uint64_t rounds[WATCH_MAX_CPUS];
static struct watch_report report;

static void take(void) {
  for (int spins = 0; atomic_flag_test_and_set_explicit(&lock, memory_order_acquire); ++spins) {
    _mm_pause();
    if (spins % SPINS_BEFORE_YIELD == SPINS_BEFORE_YIELD - 1) sched_yield();
  }
}

static void give(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

static uint64_t read_tsc(void) {
  _mm_lfence();
  const uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
}

static void look(struct cpu* cpu) {
  take();
  const uint64_t own = read_tsc();
  const uint64_t now = own - (uint64_t)ahead_ticks[cpu->number];
  const int64_t back = (int64_t)(last_ticks - now);
  if (last_valid && back > 0) {
    ++report.warps;
    if ((uint64_t)back > report.warp_largest_ticks) report.warp_largest_ticks = (uint64_t)back;
  }
  last_ticks = now;
  last_valid = true;
  if (cpu->own_last_ticks != 0 && (int64_t)(own - cpu->own_last_ticks) < 0) ++report.backward_steps;
  cpu->own_last_ticks = own;
  ++rounds[cpu->number];
  give();
}

static void* run(void* argument) {
  struct cpu* cpu = argument;
  for (;;) {
    for (int i = 0; i < BURST_LOOKS; ++i) look(cpu);
    const uint32_t us = rest_us;
    const struct timespec rest = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&rest, NULL);
  }
  return NULL;
}

bool watch_start(int count) {
  if (count < 1 || count > WATCH_MAX_CPUS) {
    errno = EINVAL;
    return false;
  }
  cpu_count = count;
  for (int i = 0; i < count; ++i) {
    cpus[i].number = i;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(i, &set);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int error = pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
    if (error == 0) error = pthread_create(&cpus[i].thread, &attributes, run, &cpus[i]);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
      errno = error;
      return false;
    }
  }
  return true;
}

struct watch_report watch_read(void) {
  take();
  struct watch_report copy = report;
  copy.rounds_least = UINT64_MAX;
  for (int i = 0; i < cpu_count; ++i) {
    copy.rounds += rounds[i];
    if (rounds[i] < copy.rounds_least) copy.rounds_least = rounds[i];
  }
  give();
  return copy;
}

// With the lock held.
static void forget_readings(void) {
  last_valid = false;
  for (int i = 0; i < cpu_count; ++i) cpus[i].own_last_ticks = 0;
}

void watch_reset(void) {
  take();
  report = (struct watch_report){0};
  for (int i = 0; i < cpu_count; ++i) rounds[i] = 0;
  forget_readings();
  give();
}

bool watch_move(int cpu, int64_t ticks, bool (*move)(void*), void* argument) {
  take();
  const bool moved = move(argument);
  if (moved) {
    ahead_ticks[cpu] += ticks;
    forget_readings();
  }
  give();
  return moved;
}

void watch_rest(uint32_t us) { rest_us = us; }

void watch_expect_equal(void) {
  take();
  for (int i = 0; i < cpu_count; ++i) ahead_ticks[i] = 0;
  forget_readings();
  give();
}
