// Identity: who calls, as far as something vouches for it: the kernel for callers of a Unix socket,
// a certificate for callers by TLS, nobody for plain TCP.
//
// Threading: plain values and pure functions.
#ifndef TSC_HANDOFF_SERVER_AUTH_IDENTITY_H_
#define TSC_HANDOFF_SERVER_AUTH_IDENTITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/base/peer_credentials.h"

namespace tsc_handoff::auth {

struct Identity {
  enum class Kind {
    kUnknown,      // nothing vouches for anything; never permitted
    kUnix,         // the kernel vouches: as the caller was when it connected
    kCertificate,  // a certificate that was verified
    kAnonymous,    // plain TCP, or TLS without a certificate of the caller's
  };
  Kind kind = Kind::kUnknown;

  // Of kUnix, as this host's kernel numbers them.
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups = {};  // supplementary ones; may hold gid, too
  int32_t pid = 0;

  // Of kCertificate: its subject alternative names.
  std::vector<std::string> uris = {};  // "spiffe://example.org/orchestrator"
  std::vector<std::string> dns = {};   // "orchestrator.example.org"

  // Of kAnonymous: by TLS, so that the address is not one that was opened for everybody.
  bool tls = false;

  // From where, as gRPC has it: "ipv4:10.0.0.1:4711". Empty for kUnix.
  std::string address = {};
};

// A caller of a Unix socket.
Identity FromCredentials(const PeerCredentials& credentials);

// Who, without from where: "uid 1000", "spiffe://example.org/orchestrator",
// "dns:orchestrator.example.org", "anonymous@10.0.0.1". Requests are counted by this name.
std::string NameOf(const Identity& identity);

// From where: "pid 4711", "10.0.0.1:4711".
std::string OriginOf(const Identity& identity);

// `address` as gRPC has it without its scheme: "10.0.0.1:4711", "[::1]:4711".
std::string PlainAddress(const std::string& address);

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_IDENTITY_H_
