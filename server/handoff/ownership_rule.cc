#include "server/handoff/ownership_rule.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::handoff {
namespace {

using journal::Standing;

Ruling Refuse(Reason reason, std::string why) {
  return {Verdict::kRefuse, Standing::kUnknown, reason, std::move(why)};
}

struct Row {
  Standing standing;
  std::array<Verdict, kClaims.size()> verdicts;
  const char* how_it_is;  // the end of "VM vm-1 ..."
};

constexpr Verdict kGo = Verdict::kGo;
constexpr Verdict kRepeat = Verdict::kRepeat;
constexpr Verdict kRefuse = Verdict::kRefuse;

// clang-format off
constexpr std::array kRows = {
    //                         Reclaim  Disown
    Row{Standing::kUnknown,   {kRefuse, kRefuse}, "was never handed off here"},
    Row{Standing::kOwned,     {kRefuse, kGo},     "is this host's"},
    Row{Standing::kReleased,  {kGo,     kRefuse}, "was released to another host"},
    Row{Standing::kAwaited,   {kGo,     kRefuse}, "has not arrived here"},
    Row{Standing::kReclaimed, {kRepeat, kGo},     "was reclaimed by this host"},
    Row{Standing::kDisowned,  {kGo,     kRepeat}, "was disowned by this host"},
};
// clang-format on

const Row* RowOf(Standing standing) {
  for (const Row& row : kRows) {
    if (row.standing == standing) return &row;
  }
  return nullptr;
}

}  // namespace

Ruling RuleOn(Claim claim, const ClaimFacts& facts) {
  const journal::VmRecord& record = facts.record;
  if (facts.pending != nullptr) {
    return Refuse(
        Reason::kHandoffConflict,
        absl::StrCat("VM ", record.vm_id, " is in handoff ", facts.pending->ticket.handoff_id, " (",
                     NameOf(facts.pending->state), "), which has not ended"));
  }
  const Row* const row = RowOf(record.standing);
  if (row == nullptr) {
    return Refuse(Reason::kInternalError,
                  absl::StrCat("the standing of VM ", record.vm_id, " is not known"));
  }
  const Verdict verdict = row->verdicts[static_cast<size_t>(claim)];
  if (verdict == Verdict::kRefuse || record.handoff_id != facts.handoff_id) {
    return Refuse(Reason::kClaimRefused,
                  absl::StrCat("VM ", record.vm_id, " ", row->how_it_is,
                               record.handoff_id.empty() ? "" : " (handoff ", record.handoff_id,
                               record.handoff_id.empty() ? "" : ")",
                               verdict == Verdict::kRefuse
                                   ? absl::StrCat("; there is nothing to ",
                                                  claim == Claim::kReclaim ? "reclaim" : "disown")
                                   : absl::StrCat(", not as of handoff ", facts.handoff_id)));
  }
  if (verdict == Verdict::kRepeat) return {verdict, record.standing, Reason::kInternalError, ""};
  if (claim == Claim::kReclaim) {
    if (!facts.here) {
      return Refuse(Reason::kVmNotFound, absl::StrCat("VM ", record.vm_id, " is not on this host"));
    }
    return {verdict, Standing::kReclaimed, Reason::kInternalError, ""};
  }
  if (facts.here) {
    return Refuse(Reason::kClaimRefused,
                  absl::StrCat("VM ", record.vm_id, " is still on this host; end its VMM first"));
  }
  return {verdict, Standing::kDisowned, Reason::kInternalError, ""};
}

const char* NameOf(Claim claim) { return claim == Claim::kReclaim ? "Reclaim" : "Disown"; }

const char* NameOf(Standing standing) {
  switch (standing) {
    case Standing::kUnknown:
      return "UNKNOWN";
    case Standing::kOwned:
      return "OWNED";
    case Standing::kReleased:
      return "RELEASED";
    case Standing::kAwaited:
      return "AWAITED";
    case Standing::kReclaimed:
      return "RECLAIMED";
    case Standing::kDisowned:
      return "DISOWNED";
  }
  return "?";
}

}  // namespace tsc_handoff::handoff
