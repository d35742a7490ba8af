#include "server/service/caller.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::service {
namespace {

using auth::Identity;

// As gRPC says it of connections without TLS; its headers have no name for it.
constexpr char kInsecure[] = "insecure";

std::vector<std::string> ValuesOf(const grpc::AuthContext& context, const char* property) {
  std::vector<std::string> values;
  for (const grpc::string_ref& value : context.FindPropertyValues(property))
    values.emplace_back(value.data(), value.size());
  return values;
}

// A certificate's, without those that are none: empty ones, and those that hold a NUL, which two
// programs would read differently.
std::vector<std::string> NamesOf(const grpc::AuthContext& context, const char* property) {
  std::vector<std::string> names = ValuesOf(context, property);
  names.erase(std::remove_if(names.begin(), names.end(),
                             [](const std::string& name) {
                               return name.empty() || absl::StrContains(name, '\0');
                             }),
              names.end());
  return names;
}

bool IsPlain(const grpc::AuthContext* context) {
  if (context == nullptr) return true;
  const auto types = ValuesOf(*context, GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  return types.empty() || types.front() == kInsecure;
}

}  // namespace

std::shared_ptr<const Identity> CallerOf(const grpc::ServerContextBase& context,
                                         const FindPeer& find_peer) {
  Identity identity;
  identity.address = context.peer();
  absl::string_view rest = identity.address;
  if (absl::ConsumePrefix(&rest, "fd:")) {
    int number = -1;
    std::shared_ptr<const Identity> peer;
    if (find_peer && absl::SimpleAtoi(rest, &number)) peer = find_peer(number);
    if (peer != nullptr) return peer;
  } else if (absl::StartsWith(rest, "ipv4:") || absl::StartsWith(rest, "ipv6:")) {
    // A certificate of the caller's was verified; see the header.
    const auto auth_context = context.auth_context();
    if (auth_context != nullptr && auth_context->IsPeerAuthenticated()) {
      identity.kind = Identity::Kind::kCertificate;
      identity.uris = NamesOf(*auth_context, GRPC_PEER_URI_PROPERTY_NAME);
      identity.dns = NamesOf(*auth_context, GRPC_PEER_DNS_PROPERTY_NAME);
    } else {
      identity.kind = Identity::Kind::kAnonymous;
      identity.tls = !IsPlain(auth_context.get());
    }
  }
  return std::make_shared<const Identity>(std::move(identity));
}

}  // namespace tsc_handoff::service
