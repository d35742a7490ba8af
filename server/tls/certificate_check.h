// CheckCertificates: whether a certificate, its key and the authorities can serve mutual TLS now.
// gRPC does not ask before it takes them: with a pair that does not fit, every new handshake would
// fail until somebody notices.
//
// Threading: pure functions. OpenSSL's queue of errors is left empty.
#ifndef TSC_HANDOFF_SERVER_TLS_CERTIFICATE_CHECK_H_
#define TSC_HANDOFF_SERVER_TLS_CERTIFICATE_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/tls/tls_files.h"

namespace tsc_handoff::tls {

enum class Problem {
  kNone,
  kUnreadable,   // no file, no PEM, an encrypted key
  kKeyMismatch,  // the key is not that of the certificate
  kNotYetValid,
  kExpired,
  kNoName,     // neither a URI nor a DNS name to know its owner by
  kWrongUse,   // the certificate says that it is not for what it is used for
  kUntrusted,  // the authorities do not vouch for it
};

// As labels of metrics have them: "ok", "unreadable", "key_mismatch", ...
const char* NameOf(Problem problem);
std::vector<std::string> ProblemNames();

enum class Use {
  kAgent,   // serves, and calls other agents
  kClient,  // only calls
};

// What was found good.
struct Certificates {
  PemTexts pem;
  std::string subject;
  std::vector<std::string> uris;
  std::vector<std::string> dns;
  // Of the certificate itself, and of the first to end in the chain up to the authority.
  int64_t not_before_s = 0;
  int64_t not_after_s = 0;
};

struct Verdict {
  Problem problem = Problem::kNone;
  std::string why;            // a sentence for an operator; empty when there is no problem
  Certificates certificates;  // complete when there is no problem

  bool ok() const { return problem == Problem::kNone; }
};

// `now_s`: seconds since the epoch. `files` only names them in messages.
Verdict CheckCertificates(const PemTexts& pem, const TlsFiles& files, Use use, int64_t now_s);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_CERTIFICATE_CHECK_H_
