#include "server/base/peer_credentials.h"

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>

namespace tsc_handoff {
namespace {

// What most processes have; the kernel says how many there are when it is too little.
constexpr size_t kUsualGroups = 32;

}  // namespace

std::optional<PeerCredentials> ReadPeerCredentials(int socket) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  PeerCredentials credentials;
  credentials.uid = peer.uid;
  credentials.gid = peer.gid;
  credentials.pid = peer.pid;
  std::vector<gid_t> groups(kUsualGroups);
  for (int attempt = 0; attempt < 2; ++attempt) {
    size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const bool read = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0;
    const bool too_little = !read && errno == ERANGE;
    if (!read && !too_little) return std::nullopt;
    groups.resize(size / sizeof(gid_t));
    if (too_little) continue;
    credentials.groups.assign(groups.begin(), groups.end());
    return credentials;
  }
  return std::nullopt;
}

}  // namespace tsc_handoff
