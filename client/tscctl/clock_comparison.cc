#include "client/tscctl/clock_comparison.h"

#include <limits>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/format.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Verdict = v1::CompareClocksResponse;

absl::uint128 AllowedNs(const v1::CompareClocksResponse& answer) {
  return absl::uint128(answer.probe().offset_error_ns()) + answer.local().error_bound_ns() +
         answer.peer().error_bound_ns();
}

uint64_t Saturated(absl::uint128 value) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  return value > kMax ? kMax : static_cast<uint64_t>(value);
}

std::string SilentHosts(const ClockComparison& comparison) {
  const Labels labels = LabelsOf(comparison);
  const bool local = comparison.answer.local().trusted();
  const bool peer = comparison.answer.peer().trusted();
  if (!local && !peer) return absl::StrCat(labels.local, " and ", labels.peer);
  return local ? labels.peer : labels.local;
}

std::string DisagreementText(const v1::CompareClocksResponse& answer) {
  const uint64_t excess_ns = ExcessNs(answer);
  // None where the agent judged by figures other than those it shows.
  const std::string by =
      excess_ns == 0 ? "" : absl::StrCat("at least ", HumanUnsignedNs(excess_ns), " ");
  return absl::StrCat("The clocks disagree: they are ", by,
                      "further apart than both claims allow. One of the two hosts is wrong.");
}

}  // namespace

Labels LabelsOf(const ClockComparison& comparison) {
  const NamedAgent& local = comparison.local;
  const NamedAgent& peer = comparison.peer;
  if (local.host_name == peer.host_name) return {local.address, peer.address};
  return {local.host_name.empty() ? local.address : local.host_name,
          peer.host_name.empty() ? peer.address : peer.host_name};
}

uint64_t AllowedDifferenceNs(const v1::CompareClocksResponse& answer) {
  return Saturated(AllowedNs(answer));
}

uint64_t ExcessNs(const v1::CompareClocksResponse& answer) {
  const uint64_t size_ns = Absolute(answer.probe().offset_ns());
  const absl::uint128 allowed_ns = AllowedNs(answer);
  return size_ns > allowed_ns ? Saturated(size_ns - allowed_ns) : 0;
}

std::string VerdictText(const ClockComparison& comparison) {
  switch (comparison.answer.verdict()) {
    case Verdict::VERDICT_AGREE:
      return "The clocks agree: both claims and the measurement can all be true.";
    case Verdict::VERDICT_DISAGREE:
      return DisagreementText(comparison.answer);
    case Verdict::VERDICT_NO_CLAIM:
      return absl::StrCat("No verdict: ", SilentHosts(comparison),
                          " cannot say how wrong its clock may be.");
    default:
      return "No verdict that this tscctl knows.";
  }
}

absl::Status VerdictStatus(const ClockComparison& comparison) {
  const Labels labels = LabelsOf(comparison);
  switch (comparison.answer.verdict()) {
    case Verdict::VERDICT_AGREE:
      return absl::OkStatus();
    case Verdict::VERDICT_DISAGREE:
      return client::ReasonError(
          absl::StatusCode::kFailedPrecondition, v1::CLOCKS_DISAGREE,
          absl::StrCat("the clocks of ", labels.local, " and ", labels.peer, " disagree"),
          "Make no handoff between them. Compare each with a third host to find out which one is "
          "wrong, and look at its clock daemon (`chronyc tracking`).");
    case Verdict::VERDICT_NO_CLAIM:
      return client::ReasonError(
          absl::StatusCode::kFailedPrecondition, v1::CLOCK_UNTRUSTED,
          absl::StrCat("no verdict: the clock of ", SilentHosts(comparison), " is not trusted"),
          "Look at that host's clock daemon (`chronyc tracking`), and ask its agent with `tscctl "
          "--agent ADDRESS clock`.");
    default:
      return absl::UnknownError("the agent gave a verdict that this tscctl does not know");
  }
}

}  // namespace tsc_handoff::tscctl
