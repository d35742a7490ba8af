// PEM text to OpenSSL's objects, and what a certificate says of itself.
//
// Threading: pure functions. OpenSSL's queue of errors is left empty.
#ifndef TSC_HANDOFF_SERVER_TLS_PEM_PARTS_H_
#define TSC_HANDOFF_SERVER_TLS_PEM_PARTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tls/openssl_types.h"

namespace tsc_handoff::tls {

// All certificates of a text, at least one. Other blocks are passed over; a damaged one is an
// error.
absl::StatusOr<Chain> ParseCertificates(const std::string& pem);

// The first private key. An encrypted one is an error: nobody is there to type its password.
absl::StatusOr<KeyPtr> ParseKey(const std::string& pem);

// In seconds since the epoch.
struct Validity {
  int64_t not_before_s = 0;
  int64_t not_after_s = 0;
};
absl::StatusOr<Validity> ValidityOf(const X509& certificate);

// Subject alternative names, without those that hold a NUL: two programs would read them
// differently.
struct AlternativeNames {
  std::vector<std::string> uris;
  std::vector<std::string> dns;
};
AlternativeNames NamesOf(const X509& certificate);

// "CN=host1,O=Example"
std::string SubjectOf(const X509& certificate);

// "2026-01-31T12:00:00Z"
std::string TimeText(int64_t seconds);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_PEM_PARTS_H_
