// Faults: how often what goes wrong in one simulated world, per mille of the occasions.
//
// Pure.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_FAULTS_H_
#define TSC_HANDOFF_TESTS_SIMULATE_FAULTS_H_

#include <cstdint>

#include "tests/clock_sim/random.h"

namespace tsc_handoff::simulate {

struct Faults {
  // The network.
  int message_lost = 0;
  int message_slow = 0;   // by up to seconds
  int request_again = 0;  // a second time, at some later moment
  // Agents. Crashes at each write of the journal (before, written but not synced, synced but not
  // told), at each message to a VMM (before, after), and at each call (before, after).
  int agent_crashes = 0;
  int journal_refuses = 0;  // a write: nothing is there, and the journal goes on
  int journal_fails = 0;    // a write: it may be there or not, and the journal takes no more
  // VMMs.
  int port_breaks = 0;     // the connection, before a request or its answer, or in between
  int port_refuses = 0;    // an ioctl fails, and all is as before
  int rollback_fails = 0;  // a write leaves the VM with neither old nor new TSCs
  int vmm_dies = 0;        // of each look at a VMM whose VM is not there (yet)
  // Orchestrators.
  int orchestrator_dies = 0;  // of its calls
  int caller_gives_up = 0;    // of calls
  int liar = 0;               // of rounds: somebody sends proofs that are none
  // Clocks.
  int clock_steps = 0;      // of rounds
  int clock_untrusted = 0;  // of looks at it
};

// A quarter of the worlds has next to no faults, others have one kind, or all.
Faults DrawFaults(clock_sim::Random& random);

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_FAULTS_H_
