// Who is at the other end of a Unix socket, by the kernel's word: as that process was when it
// connected. Numbers are those of this process's user namespace; a user that has none there is the
// kernel's overflow user, 65534.
//
// Threading: a function without shared state.
#ifndef TSC_HANDOFF_SERVER_BASE_PEER_CREDENTIALS_H_
#define TSC_HANDOFF_SERVER_BASE_PEER_CREDENTIALS_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace tsc_handoff {

struct PeerCredentials {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups = {};  // supplementary
  int32_t pid = 0;
};

// Nullopt when `socket` is no connected Unix socket.
std::optional<PeerCredentials> ReadPeerCredentials(int socket);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_PEER_CREDENTIALS_H_
