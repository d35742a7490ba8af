// tscctl's JSON: the agents' messages as protobuf writes them (names as in the .proto files, zero
// values included, 64-bit integers as strings), and tscctl's own objects.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_JSON_OUTPUT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_JSON_OUTPUT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "client/lib/handoff.h"
#include "client/lib/state_view.h"
#include "client/tscctl/options.h"
#include "google/protobuf/message.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// Ends with a newline.
std::string MessageAsJson(const google::protobuf::Message& message);

// Of `tscctl set`: the message with null for an error bound or a probe that is not there; ends with
// a newline.
std::string ApplyAsJson(const tschandoff::v1::SetTscStateResponse& apply);

// Of `tscctl decode`; ends with a newline.
std::string StateAsJson(const client::StateView& state, size_t state_bytes);

// Of `tscctl handoff`, described in its help; ends with a newline.
std::string HandoffAsJson(const Options& options, const client::HandoffReport& report);

std::string VersionAsJson(absl::string_view version);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_JSON_OUTPUT_H_
