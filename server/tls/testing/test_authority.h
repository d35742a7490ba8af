// TestAuthority: an authority that issues certificates of any kind a test needs, good or bad.
//
// Threading: not thread-safe.
#ifndef TSC_HANDOFF_SERVER_TLS_TESTING_TEST_AUTHORITY_H_
#define TSC_HANDOFF_SERVER_TLS_TESTING_TEST_AUTHORITY_H_

#include <cstdint>
#include <string>

#include "server/tls/openssl_types.h"
#include "server/tls/tls_files.h"

namespace tsc_handoff::tls {

// The middle of the validity of what is issued without another wish; real tests of handshakes take
// the real time.
int64_t RealNowS();

struct CertificateWish {
  std::string common_name = "agent";
  // As OpenSSL's subjectAltName; empty: none.
  std::string names = "URI:spiffe://example.org/agent,DNS:agent.example.org,IP:127.0.0.1";
  int64_t not_before_s = RealNowS() - 3600;
  int64_t not_after_s = RealNowS() + 3600;
  std::string extended_key_usage = "serverAuth,clientAuth";
  int rsa_bits = 0;  // 0: an elliptic key
};

struct Issued {
  std::string cert;
  std::string key;
};

class TestAuthority {
 public:
  // Its own certificate is its own, or that of `parent`.
  explicit TestAuthority(const std::string& name, const TestAuthority* parent = nullptr,
                         int64_t not_after_s = RealNowS() + 86400);

  const std::string& cert() const { return pem_; }
  Issued Issue(const CertificateWish& wish) const;
  Issued Issue() const { return Issue(CertificateWish()); }

  // All that one end needs.
  PemTexts Texts(const CertificateWish& wish) const;
  PemTexts Texts() const { return Texts(CertificateWish()); }

 private:
  KeyPtr key_;
  CertificatePtr certificate_;
  std::string pem_;
};

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_TESTING_TEST_AUTHORITY_H_
