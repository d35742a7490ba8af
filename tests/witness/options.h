// The witness's command line as a checked structure.
//
// Threading: ParseOptions uses getopt's globals; call it from one thread at a time.
#ifndef TSC_HANDOFF_TESTS_WITNESS_OPTIONS_H_
#define TSC_HANDOFF_TESTS_WITNESS_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tsc_handoff::witness {

struct Options {
  std::string vm_id;
  std::vector<uint32_t> vcpu_ids;  // strictly ascending
  std::string agent_socket;        // empty: no agent
  std::string control_path;
  std::vector<uint64_t> phase_ticks;       // one per vCPU, modulo 2^64
  std::vector<uint64_t> tsc_adjust_ticks;  // one per vCPU, modulo 2^64
  bool incoming = false;
  bool awaits_handoff = false;
  bool paused = false;
  bool irqchip = false;
  bool check_across = true;
  bool help = false;
  uint64_t deadline_period_ticks = 0;
  int register_timeout_ms = 10'000;
  int nice = 10;
  int nap_us = 5'000;
  // 0: never. Else this process is killed in place of its n-th write of a TSC or of kvmclock.
  uint32_t die_at_write = 0;
};

// `args` without the program's name. INVALID_ARGUMENT with a sentence that names the option.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& args);

// "1,-2,0x10": at most `count` whole numbers, negative ones modulo 2^64; what is missing at the end
// is 0.
absl::StatusOr<std::vector<uint64_t>> ParseTicks(std::string_view list, size_t count);

// vCPU i of `count` gets i/(count-1) of `spread`, so that the first and the last differ by all of
// it.
std::vector<uint64_t> SpreadPhases(int64_t spread, size_t count);

extern const char kUsage[];

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_OPTIONS_H_
