// The deliberate bugs, by name: mistakes in the agents that the simulation must find.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_BUGS_H_
#define TSC_HANDOFF_TESTS_SIMULATE_BUGS_H_

#include <array>
#include <string>

#include "server/handoff/handoff_controller.h"

namespace tsc_handoff::simulate {

struct Bugs {
  handoff::Mutations mutations;
  bool skip_sync = false;  // every other write of the journal is acknowledged and not synced
};

struct Bug {
  const char* name;
  Bugs bugs;
};

inline constexpr std::array kBugs = {
    Bug{"skip-sync", {{}, true}},
    Bug{"accept-lower-epoch", {{.accept_lower_epoch = true}, false}},
    Bug{"apply-twice", {{.apply_twice = true}, false}},
    // The destination is ACTIVE before the source has released, or ABORTED before it has aborted.
    Bug{"believe-any-proof", {{.believe_any_proof = true}, false}},
    Bug{"forget-undo", {{.forget_undo = true}, false}},
    Bug{"keep-permit", {{.keep_permit = true}, false}},
};

// Null when there is none of that name.
inline const Bug* FindBug(const std::string& name) {
  for (const Bug& bug : kBugs) {
    if (name == bug.name) return &bug;
  }
  return nullptr;
}

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_BUGS_H_
