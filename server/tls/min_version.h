// SetMinVersion: no TLS connection of this process is older than that, and none resumes an earlier
// one: each shows its certificate, which may have expired since. gRPC 1.51 takes TLS 1.2 as well,
// hands out tickets for two hours, and has no options for either, so OpenSSL is told: its
// configuration of the system's default applies to every context that is made afterwards.
//
// Threading: once, before the first TLS credentials are made.
#ifndef TSC_HANDOFF_SERVER_TLS_MIN_VERSION_H_
#define TSC_HANDOFF_SERVER_TLS_MIN_VERSION_H_

#include "absl/status/status.h"

namespace tsc_handoff::tls {

enum class MinVersion { kTls12, kTls13 };

// Replaces what /etc/ssl/openssl.cnf says of TLS. Errors: OpenSSL does not take it; then anything
// from 1.2 on may still be possible.
absl::Status SetMinVersion(MinVersion version);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_MIN_VERSION_H_
