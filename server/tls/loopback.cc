#include "server/tls/loopback.h"

#include <arpa/inet.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::tls {

bool IsUnixSocket(absl::string_view address) { return absl::StartsWith(address, "unix:"); }

bool IsLoopback(absl::string_view address) {
  if (absl::StartsWith(address, "unix-abstract:")) return true;
  for (const absl::string_view scheme : {"dns:", "ipv4:", "ipv6:"})
    if (absl::ConsumePrefix(&address, scheme)) break;
  absl::ConsumePrefix(&address, "///");
  const absl::string_view host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  in_addr parsed = {};
  return inet_pton(AF_INET, std::string(host).c_str(), &parsed) == 1 &&
         (ntohl(parsed.s_addr) >> 24) == 127;
}

}  // namespace tsc_handoff::tls
