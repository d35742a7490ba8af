// What an operator may say of where a VM is, against what its handoffs say: the one rule. Pure.
//
// A VM that was released stays barred on its old host until a handoff brings it back. Where it came
// back without one (a plain migration, a restore from a backup because the other host is lost), an
// operator reclaims it. Where a VM has left without a handoff, he disowns it: otherwise no later
// handoff could bring it again, and its old host would go on to let it run.
//
// Disowning only takes a permit away, so it can do no harm but to stop a VM. Reclaiming gives one.
// That no other host gives one too is certain if the host that the VM was released to has disowned
// it first (client: tscctl reclaim --from); otherwise it is the operator's word.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_OWNERSHIP_RULE_H_
#define TSC_HANDOFF_SERVER_HANDOFF_OWNERSHIP_RULE_H_

#include <array>
#include <string>

#include "server/base/error.h"
#include "server/handoff/handoff_machine.h"
#include "server/journal/journal.h"

namespace tsc_handoff::handoff {

enum class Claim {
  kReclaim,  // it is here, and runs nowhere else
  kDisown,   // it is not here any more
};
inline constexpr std::array kClaims = {Claim::kReclaim, Claim::kDisown};
inline constexpr std::array kStandings = {
    journal::Standing::kUnknown, journal::Standing::kOwned,     journal::Standing::kReleased,
    journal::Standing::kAwaited, journal::Standing::kReclaimed, journal::Standing::kDisowned};

// What is known of the VM, and what was said.
struct ClaimFacts {
  journal::VmRecord record;                         // with kUnknown when there is none
  const journal::HandoffRecord* pending = nullptr;  // a handoff of the VM that has not ended here
  bool here = false;                                // the VM is on this host at this moment
  std::string handoff_id;                           // that is to be overruled
};

struct Ruling {
  Verdict verdict = Verdict::kRefuse;
  journal::Standing next = journal::Standing::kUnknown;  // with kGo
  Reason reason = Reason::kInternalError;                // with kRefuse
  std::string why;                                       // with kRefuse: a sentence
};

Ruling RuleOn(Claim claim, const ClaimFacts& facts);

// "Reclaim"; "RELEASED".
const char* NameOf(Claim claim);
const char* NameOf(journal::Standing standing);

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_OWNERSHIP_RULE_H_
