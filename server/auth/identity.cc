#include "server/auth/identity.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tsc_handoff::auth {

Identity FromCredentials(const PeerCredentials& credentials) {
  Identity identity;
  identity.kind = Identity::Kind::kUnix;
  identity.uid = credentials.uid;
  identity.gid = credentials.gid;
  identity.groups = credentials.groups;
  identity.pid = credentials.pid;
  return identity;
}

std::string PlainAddress(const std::string& address) {
  for (const char* scheme : {"ipv4:", "ipv6:"}) {
    // gRPC writes an IPv6 address as part of a URI.
    if (absl::StartsWith(address, scheme))
      return absl::StrReplaceAll(address.substr(5), {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
  }
  return address;
}

std::string NameOf(const Identity& identity) {
  switch (identity.kind) {
    case Identity::Kind::kUnix:
      return absl::StrCat("uid ", identity.uid);
    case Identity::Kind::kCertificate:
      if (!identity.uris.empty()) return identity.uris.front();
      if (!identity.dns.empty()) return absl::StrCat("dns:", identity.dns.front());
      return "a certificate without names";
    case Identity::Kind::kAnonymous: {
      const std::string address = PlainAddress(identity.address);
      return absl::StrCat("anonymous@", address.substr(0, address.rfind(':')));
    }
    case Identity::Kind::kUnknown:
      break;
  }
  return "unknown";
}

std::string OriginOf(const Identity& identity) {
  return identity.kind == Identity::Kind::kUnix ? absl::StrCat("pid ", identity.pid)
                                                : PlainAddress(identity.address);
}

}  // namespace tsc_handoff::auth
