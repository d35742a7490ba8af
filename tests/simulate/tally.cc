#include "tests/simulate/tally.h"

#include "absl/strings/str_cat.h"

namespace tsc_handoff::simulate {
namespace {

constexpr std::array kNames = {
    "handoffs begun",
    "committed",
    "aborted",
    "aborted before the destination had heard",
    "restored by the destination",
    "recovered from APPLYING",
    "applied to a VMM that was lost",
    "applied again",
    "released before applied",
    "answered with the stored answer",
    "refused: HANDOFF_CONFLICT",
    "refused: STALE_EPOCH",
    "refused: HANDOFF_DECIDED",
    "refused: HANDOFF_UNDECIDED",
    "refused: VM_BUSY",
    "refused: HANDOFF_ID_REUSED",
    "refused: by the clocks",
    "refused: VM_RUNNING",
    "refused: VMM_GONE",
    "cancelled before it did anything",
    "refused: JOURNAL_UNAVAILABLE",
    "refused: ROLLBACK_FAILED",
    "agents crashed",
    "agents crashed with a change not synced",
    "agents crashed with a change not told",
    "VMMs died",
    "VMMs reconnected",
    "orchestrators died",
    "messages lost",
    "messages late",
    "requests that came again",
    "clocks stepped",
    "two orchestrators at once",
    "two handoffs of a VM at once",
    "VMs that came back",
    "ended by another orchestrator",
    "ended after the faults only",
    "records forgotten",
};
static_assert(kNames.size() == static_cast<size_t>(Fact::kCount));

}  // namespace

const char* NameOf(Fact fact) { return kNames[static_cast<size_t>(fact)]; }

std::string Tally::Text() const {
  std::string text;
  for (size_t i = 0; i < kNames.size(); ++i)
    absl::StrAppend(&text, absl::StrCat(counts_[i]), "\t", kNames[i], "\n");
  return text;
}

}  // namespace tsc_handoff::simulate
