// What the agent's operator allows. Plain values.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_LIMITS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_LIMITS_H_

#include <cstdint>

namespace tsc_handoff::handoff {

struct Limits {
  int64_t max_error_ns = 1'000'000;
  int64_t max_elapsed_ns = 300'000'000'000;
  // How long an apply waits, at the most, until it is certain that time has passed.
  int64_t max_commit_wait_ns = 100'000'000;
  uint32_t rate_uncertainty_ppm = 50;
  bool permit_untrusted_clock = false;  // a request may set allow_untrusted_clock
  bool permit_higher_error = false;     // a request may raise max_error_ns above the limit here
  bool require_probe = false;           // another host's state needs its source to be probed
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_LIMITS_H_
