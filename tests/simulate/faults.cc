#include "tests/simulate/faults.h"

namespace tsc_handoff::simulate {

Faults DrawFaults(clock_sim::Random& random) {
  Faults faults;
  const auto some = [&](int most) { return static_cast<int>(random.OctaveBetween(1, most)); };
  const auto maybe = [&](int percent) { return random.Percent(percent); };
  const bool all = maybe(20);
  if (all || maybe(40)) faults.message_lost = some(200);
  if (all || maybe(40)) faults.message_slow = some(200);
  if (all || maybe(50)) faults.request_again = some(300);
  if (all || maybe(50)) faults.agent_crashes = some(60);
  if (all || maybe(20)) faults.journal_refuses = some(60);
  if (all || maybe(20)) faults.journal_fails = some(30);
  if (all || maybe(30)) faults.port_breaks = some(100);
  if (all || maybe(20)) faults.port_refuses = some(100);
  if (all || maybe(10)) faults.rollback_fails = some(50);
  if (all || maybe(40)) faults.vmm_dies = some(300);
  if (all || maybe(40)) faults.orchestrator_dies = some(150);
  if (all || maybe(30)) faults.caller_gives_up = some(100);
  if (all || maybe(30)) faults.liar = some(500);
  if (all || maybe(30)) faults.clock_steps = some(300);
  if (all || maybe(20)) faults.clock_untrusted = some(200);
  return faults;
}

}  // namespace tsc_handoff::simulate
