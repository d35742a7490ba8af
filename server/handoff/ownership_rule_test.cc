#include "server/handoff/ownership_rule.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::handoff {
namespace {

using journal::HandoffRecord;
using journal::Standing;
using journal::State;

// As it has to be for the claim.
ClaimFacts Facts(Claim claim, Standing standing) {
  ClaimFacts facts;
  facts.record.vm_id = "vm";
  facts.record.standing = standing;
  facts.record.handoff_id = standing == Standing::kUnknown ? "" : "h1";
  facts.handoff_id = "h1";
  facts.here = claim == Claim::kReclaim;
  return facts;
}

TEST(OwnershipRuleTest, TheDiagramInTheDocumentationIsTheRule) {
  std::string wanted = "```mermaid\nstateDiagram-v2\n";
  for (const Standing standing : kStandings) {
    for (const Claim claim : kClaims) {
      const Ruling ruling = RuleOn(claim, Facts(claim, standing));
      if (ruling.verdict != Verdict::kGo) continue;
      absl::StrAppend(&wanted, "  ", NameOf(standing), " --> ", NameOf(ruling.next), " : ",
                      NameOf(claim), "\n");
    }
  }
  absl::StrAppend(&wanted, "```\n");
  std::ifstream file("ARCHITECTURE.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(wanted), std::string::npos) << "ARCHITECTURE.md does not contain:\n"
                                                        << wanted;
}

TEST(OwnershipRuleTest, WhatWasDoneOnceIsARepeat) {
  EXPECT_EQ(RuleOn(Claim::kReclaim, Facts(Claim::kReclaim, Standing::kReclaimed)).verdict,
            Verdict::kRepeat);
  ClaimFacts gone = Facts(Claim::kReclaim, Standing::kReclaimed);
  gone.here = false;
  EXPECT_EQ(RuleOn(Claim::kReclaim, gone).verdict, Verdict::kRepeat);
  EXPECT_EQ(RuleOn(Claim::kDisown, Facts(Claim::kDisown, Standing::kDisowned)).verdict,
            Verdict::kRepeat);
}

struct Refusal {
  const char* what;
  Claim claim;
  Standing standing;
  bool here;
  const char* handoff_id;
  Reason reason;
  const char* why;
};

const Refusal kRefusals[] = {
    {"never away", Claim::kReclaim, Standing::kUnknown, true, "h1", Reason::kClaimRefused,
     "nothing to reclaim"},
    {"arrived", Claim::kReclaim, Standing::kOwned, true, "h1", Reason::kClaimRefused,
     "is this host's (handoff h1)"},
    {"not here", Claim::kReclaim, Standing::kReleased, false, "h1", Reason::kVmNotFound,
     "not on this host"},
    {"another handoff", Claim::kReclaim, Standing::kReleased, true, "h0", Reason::kClaimRefused,
     "(handoff h1), not as of handoff h0"},
    {"reclaimed as of another", Claim::kReclaim, Standing::kReclaimed, true, "h0",
     Reason::kClaimRefused, "not as of handoff h0"},
    {"never handed off", Claim::kDisown, Standing::kUnknown, false, "h1", Reason::kClaimRefused,
     "nothing to disown"},
    {"went on", Claim::kDisown, Standing::kReleased, false, "h1", Reason::kClaimRefused,
     "released to another host"},
    {"never arrived", Claim::kDisown, Standing::kAwaited, false, "h1", Reason::kClaimRefused,
     "has not arrived"},
    {"still here", Claim::kDisown, Standing::kOwned, true, "h1", Reason::kClaimRefused,
     "still on this host"},
    {"arrived again", Claim::kDisown, Standing::kOwned, false, "h0", Reason::kClaimRefused,
     "not as of handoff h0"},
};

TEST(OwnershipRuleTest, WhatDoesNotFitIsRefused) {
  for (const Refusal& row : kRefusals) {
    ClaimFacts facts = Facts(row.claim, row.standing);
    facts.here = row.here;
    facts.handoff_id = row.handoff_id;
    const Ruling ruling = RuleOn(row.claim, facts);
    EXPECT_EQ(ruling.verdict, Verdict::kRefuse) << row.what;
    EXPECT_EQ(ruling.reason, row.reason) << row.what;
    EXPECT_NE(ruling.why.find(row.why), std::string::npos) << row.what << ": " << ruling.why;
  }
}

TEST(OwnershipRuleTest, NothingIsSaidOfAVmWhoseHandoffHasNotEnded) {
  for (const State state : {State::kCaptured, State::kEmpty, State::kApplying, State::kApplied}) {
    HandoffRecord record;
    record.ticket.handoff_id = "h2";
    record.state = state;
    for (const Standing standing : kStandings) {
      for (const Claim claim : kClaims) {
        ClaimFacts facts = Facts(claim, standing);
        facts.pending = &record;
        const Ruling ruling = RuleOn(claim, facts);
        EXPECT_EQ(ruling.verdict, Verdict::kRefuse);
        EXPECT_EQ(ruling.reason, Reason::kHandoffConflict);
        EXPECT_NE(ruling.why.find("h2"), std::string::npos) << ruling.why;
      }
    }
  }
}

TEST(OwnershipRuleTest, AStandingOfALaterVersionIsRefused) {
  const auto later = static_cast<Standing>(99);
  for (const Claim claim : kClaims)
    EXPECT_EQ(RuleOn(claim, Facts(claim, later)).verdict, Verdict::kRefuse);
}

}  // namespace
}  // namespace tsc_handoff::handoff
