// Between the API's messages and the core's values. Requests are checked completely here: what
// comes out is in range.
//
// Pure functions. Errors: kRequestInvalid with metadata "field", and those of state::Decode.
#ifndef TSC_HANDOFF_SERVER_SERVICE_CONVERT_H_
#define TSC_HANDOFF_SERVER_SERVICE_CONVERT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/handoff/handoff_controller.h"
#include "server/handoff/timekeeper.h"
#include "server/handoff/tsc_operations.h"
#include "server/host/host_facts.h"
#include "server/observe/observations.h"
#include "server/registry/vm_registry.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::service {

// Of a VM or a handoff: 1 to 128 characters of [A-Za-z0-9._:-].
absl::Status CheckId(const std::string& field, const std::string& id);

absl::Status CheckRequest(const tschandoff::v1::GetTscStateRequest& request);

absl::StatusOr<handoff::ApplyRequest> FromProto(const tschandoff::v1::SetTscStateRequest& request);

tschandoff::v1::HostInfo ToProto(const host::HostFacts& host, const handoff::ClockNow& clock,
                                 size_t vm_count);
tschandoff::v1::ClockInfo ToProto(const handoff::ClockNow& clock);
tschandoff::v1::ClockReading ToProto(const time::ClockStamp& stamp);
tschandoff::v1::CompareClocksResponse ToProto(const handoff::Comparison& comparison);
tschandoff::v1::Vm ToProto(const registry::RegisteredVm& vm, const handoff::VmStanding& standing,
                           const std::optional<observe::Observation>& observation);
tschandoff::v1::GetTscStateResponse ToProto(const handoff::CaptureOutcome& outcome);
tschandoff::v1::SetTscStateResponse ToProto(const handoff::ApplyOutcome& outcome);
// Discloses a proof only where the handoff has come to it. REQUIRES: a record.
tschandoff::v1::Handoff ToProto(const handoff::HandoffView& view);
absl::StatusOr<time::HandoffTicket> TicketFromProto(const tschandoff::v1::HandoffTicket& proto);

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_CONVERT_H_
