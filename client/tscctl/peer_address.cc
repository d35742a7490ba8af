#include "client/tscctl/peer_address.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace tsc_handoff::tscctl {
namespace {

constexpr size_t kMaxBytes = 255;

bool HasOnly(absl::string_view text, absl::string_view others) {
  return std::all_of(text.begin(), text.end(), [others](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           others.find(c) != absl::string_view::npos;
  });
}

bool IsHost(absl::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    return HasOnly(host.substr(1, host.size() - 2), ":.%");
  }
  return !host.empty() && HasOnly(host, ".-_");
}

}  // namespace

bool IsPeerAddress(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || address.size() > kMaxBytes) return false;
  const absl::string_view port_text = address.substr(colon + 1);
  int port = 0;
  return IsHost(address.substr(0, colon)) && HasOnly(port_text, "") &&
         absl::SimpleAtoi(port_text, &port) && port >= 1 && port <= 65535;
}

}  // namespace tsc_handoff::tscctl
