// TlsFiles: the three PEM files of one end of mutual TLS, and their text once read.
//
// Threading: functions without shared state. Reading blocks.
#ifndef TSC_HANDOFF_SERVER_TLS_TLS_FILES_H_
#define TSC_HANDOFF_SERVER_TLS_TLS_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tsc_handoff::tls {

// Paths. All three or none.
struct TlsFiles {
  std::string ca;    // certificates of the authorities that vouch for the other end
  std::string cert;  // this end's certificate first, then the intermediate ones
  std::string key;   // its private key, not encrypted

  bool empty() const { return ca.empty() && cert.empty() && key.empty(); }
  bool operator==(const TlsFiles&) const = default;
};

// What the files hold.
struct PemTexts {
  std::string ca;
  std::string cert;
  std::string key;

  bool operator==(const PemTexts&) const = default;
};

// OK for all three or none; INVALID_ARGUMENT otherwise, naming what is missing.
absl::Status CheckComplete(const TlsFiles& files);

// Reads all three. Errors, each with what to do: a file that is missing, empty, above 1 MiB or not
// a file; a key that users other than its owner and group may read.
absl::StatusOr<PemTexts> ReadTlsFiles(const TlsFiles& files);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_TLS_FILES_H_
