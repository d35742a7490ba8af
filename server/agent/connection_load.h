// What gRPC says of its connections: how many calls each has begun and ended (channelz). Needed
// because gRPC 1.51 holds a peer to the number of calls at once only after the peer has
// acknowledged it, and keeps what belongs to a call that was taken back until its answer could be
// sent.
//
// Threading: not thread-safe.
#ifndef TSC_HANDOFF_SERVER_AGENT_CONNECTION_LOAD_H_
#define TSC_HANDOFF_SERVER_AGENT_CONNECTION_LOAD_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff::agent {

struct ConnectionLoad {
  std::string peer = {};  // as gRPC has it: "fd:4711", "ipv4:10.0.0.1:4711"
  int64_t begun = 0;      // calls, since the connection began
  int64_t failed = 0;     // of them: taken back, or cut off
  int64_t succeeded = 0;
  int64_t open() const { return begun - succeeded - failed; }
};

// One that a peer keeps to the rules has not: more than twice the calls that may be open at once,
// or since `before` more than a thousand calls that came to nothing, which are most of its calls.
bool IsFlood(const ConnectionLoad& before, const ConnectionLoad& now, uint32_t max_streams);

// From gRPC's JSON of a socket; an empty peer when it is none.
ConnectionLoad ParseLoad(absl::string_view json);

class ConnectionLoads {
 public:
  struct Change {
    ConnectionLoad before;  // zeros, when the connection is new
    ConnectionLoad now;
  };

  // Of all connections of this process that accept calls or make them, since the last time.
  std::vector<Change> Look();

 private:
  std::map<int64_t, ConnectionLoad> known_;  // by channelz' ids, which grow
  int64_t next_id_ = 1;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_CONNECTION_LOAD_H_
