// What is reached without leaving this host, and may therefore go without TLS.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_SERVER_TLS_LOOPBACK_H_
#define TSC_HANDOFF_SERVER_TLS_LOOPBACK_H_

#include "absl/strings/string_view.h"

namespace tsc_handoff::tls {

// "unix:/path": its mode and its directory say who reaches it.
bool IsUnixSocket(absl::string_view address);

// Whether an address reaches no further than this host, where every process reaches it:
// 127.0.0.0/8,
// [::1], localhost, also with one of gRPC's schemes in front (dns:, ipv4:, ipv6:), which tscctl
// lets through; and sockets of the abstract namespace, which have no mode.
bool IsLoopback(absl::string_view address);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_LOOPBACK_H_
