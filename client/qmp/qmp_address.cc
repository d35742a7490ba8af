#include "client/qmp/qmp_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::qmp {
namespace {

constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

absl::Status Wrong(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no monitor's address: ", why));
}

absl::StatusOr<QmpAddress> ParseUnix(absl::string_view text, absl::string_view path) {
  if (path.empty()) return Wrong(text, "the path is empty");
  if (path.size() > kMaxPath) {
    return Wrong(text, absl::StrCat("a socket's path has at most ", kMaxPath, " characters"));
  }
  QmpAddress address;
  address.text = std::string(text);
  address.unix_path = std::string(path);
  return address;
}

// Names are not looked up: what "localhost" is to mean cannot be up to a resolver.
bool IsLoopback(const std::string& host, bool ipv6) {
  if (ipv6) {
    in6_addr parsed;
    return inet_pton(AF_INET6, host.c_str(), &parsed) == 1 && IN6_IS_ADDR_LOOPBACK(&parsed);
  }
  in_addr parsed;
  return inet_pton(AF_INET, host.c_str(), &parsed) == 1 && (ntohl(parsed.s_addr) >> 24) == 127;
}

}  // namespace

absl::StatusOr<QmpAddress> ParseQmpAddress(absl::string_view text) {
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "unix:")) return ParseUnix(text, path);
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) {
    return Wrong(text, "write unix:/path/to/socket or HOST:PORT");
  }
  absl::string_view host = text.substr(0, colon);
  QmpAddress address;
  address.text = std::string(text);
  uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port == 0 || port > 65535) {
    return Wrong(text, "the port must be a number from 1 to 65535");
  }
  address.port = static_cast<uint16_t>(port);
  address.ipv6 = absl::ConsumePrefix(&host, "[") && absl::ConsumeSuffix(&host, "]");
  address.host = host == "localhost" ? "127.0.0.1" : std::string(host);
  if (!IsLoopback(address.host, address.ipv6)) {
    return Wrong(text,
                 "HOST must be of the loopback interface, because QMP has no authentication; reach "
                 "another machine's monitor through a tunnel (ssh -L)");
  }
  return address;
}

}  // namespace tsc_handoff::qmp
