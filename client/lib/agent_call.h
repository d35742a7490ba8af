// The calls that a handoff is made of, as values.
#ifndef TSC_HANDOFF_CLIENT_LIB_AGENT_CALL_H_
#define TSC_HANDOFF_CLIENT_LIB_AGENT_CALL_H_

#include <variant>

#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::client {

using AgentRequest =
    std::variant<tschandoff::v1::GetHostInfoRequest, tschandoff::v1::GetVmRequest,
                 tschandoff::v1::GetTscStateRequest, tschandoff::v1::SetTscStateRequest,
                 tschandoff::v1::CommitHandoffRequest, tschandoff::v1::AbortHandoffRequest,
                 tschandoff::v1::GetHandoffRequest>;
using AgentAnswer =
    std::variant<tschandoff::v1::GetHostInfoResponse, tschandoff::v1::GetVmResponse,
                 tschandoff::v1::GetTscStateResponse, tschandoff::v1::SetTscStateResponse,
                 tschandoff::v1::CommitHandoffResponse, tschandoff::v1::AbortHandoffResponse,
                 tschandoff::v1::GetHandoffResponse>;

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_AGENT_CALL_H_
