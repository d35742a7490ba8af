// The addresses at which agents reach each other.
//
// Threading: a pure function.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_PEER_ADDRESS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_PEER_ADDRESS_H_

#include "absl/strings/string_view.h"

namespace tsc_handoff::tscctl {

// Whether `address` is HOST:PORT of at most 255 characters; an IPv6 address stands in brackets. No
// Unix socket and no other scheme: another host could not reach it.
bool IsPeerAddress(absl::string_view address);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_PEER_ADDRESS_H_
