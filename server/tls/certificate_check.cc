#include "server/tls/certificate_check.h"

#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/tls/openssl_types.h"
#include "server/tls/pem_parts.h"

namespace tsc_handoff::tls {
namespace {

constexpr std::array kNames = {"ok",      "unreadable", "key_mismatch", "not_yet_valid",
                               "expired", "no_name",    "wrong_use",    "untrusted"};
// As the TLS library judges keys and signatures itself, when it takes them: 112 bits.
constexpr int kSecurityLevel = 2;

Verdict Bad(Problem problem, std::string why) {
  Verdict verdict;
  verdict.problem = problem;
  verdict.why = std::move(why);
  return verdict;
}

Verdict CheckTime(const Validity& validity, const TlsFiles& files, int64_t now_s) {
  if (now_s < validity.not_before_s) {
    return Bad(Problem::kNotYetValid,
               absl::StrCat(files.cert, ": the certificate is valid from ",
                            TimeText(validity.not_before_s), " on, and it is ", TimeText(now_s),
                            "; is this host's clock right?"));
  }
  if (now_s >= validity.not_after_s) {
    return Bad(Problem::kExpired, absl::StrCat(files.cert, ": the certificate expired at ",
                                               TimeText(validity.not_after_s), "; renew it"));
  }
  return {};
}

Verdict CheckUse(X509* leaf, const TlsFiles& files, Use use) {
  const auto lacks = [&](const char* end) {
    return Bad(
        Problem::kWrongUse,
        absl::StrCat(
            files.cert, ": its (extended) key usage does not permit a TLS ", end,
            use == Use::kAgent ? "; an agent serves and calls others: issue it for both" : ""));
  };
  if (use == Use::kAgent && X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
    return lacks("server");
  if (X509_check_purpose(leaf, X509_PURPOSE_SSL_CLIENT, 0) != 1) return lacks("client");
  return {};
}

// As the other end will do it, with the same authorities. Sets `not_after_s` to the end of the
// first certificate to end.
Verdict CheckTrust(const Chain& chain, const Chain& authorities, const TlsFiles& files,
                   int64_t now_s, int64_t& not_after_s) {
  const StorePtr store(X509_STORE_new());
  for (const CertificatePtr& authority : authorities)
    X509_STORE_add_cert(store.get(), authority.get());
  // As gRPC has it: an intermediate authority may be trusted without its root.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
  const StackPtr others(sk_X509_new_null());
  for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(others.get(), chain[i].get());
  const StoreContextPtr context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(), others.get());
  X509_VERIFY_PARAM* const how = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(how, now_s);
  X509_VERIFY_PARAM_set_auth_level(how, kSecurityLevel);
  const bool trusted = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (!trusted) {
    const int error = X509_STORE_CTX_get_error(context.get());
    X509* const which = X509_STORE_CTX_get_current_cert(context.get());
    return Bad(Problem::kUntrusted, absl::StrCat(files.ca, " does not vouch for ", files.cert, ": ",
                                                 X509_verify_cert_error_string(error), " (",
                                                 which == nullptr ? "" : SubjectOf(*which), ")"));
  }
  STACK_OF(X509)* const verified = X509_STORE_CTX_get0_chain(context.get());
  for (int i = 0; i < sk_X509_num(verified); ++i) {
    const auto validity = ValidityOf(*sk_X509_value(verified, i));
    if (validity.ok()) not_after_s = std::min(not_after_s, validity->not_after_s);
  }
  return {};
}

Verdict Judge(const PemTexts& pem, const TlsFiles& files, Use use, int64_t now_s) {
  const auto unreadable = [](const std::string& file, const absl::Status& status) {
    return Bad(Problem::kUnreadable, absl::StrCat(file, ": ", status.message()));
  };
  const auto authorities = ParseCertificates(pem.ca);
  if (!authorities.ok()) return unreadable(files.ca, authorities.status());
  const auto chain = ParseCertificates(pem.cert);
  if (!chain.ok()) return unreadable(files.cert, chain.status());
  const auto key = ParseKey(pem.key);
  if (!key.ok()) return unreadable(files.key, key.status());
  X509* const leaf = chain->front().get();
  const auto validity = ValidityOf(*leaf);
  if (!validity.ok()) return unreadable(files.cert, validity.status());

  const bool fits = X509_check_private_key(leaf, key->get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return Bad(Problem::kKeyMismatch,
               absl::StrCat(files.key, " is not the key of the first certificate in ", files.cert,
                            "; put both in place together"));
  }
  if (Verdict verdict = CheckTime(*validity, files, now_s); !verdict.ok()) return verdict;
  AlternativeNames names = NamesOf(*leaf);
  if (names.uris.empty() && names.dns.empty()) {
    return Bad(Problem::kNoName,
               absl::StrCat(files.cert,
                            ": the certificate has neither a URI nor a DNS subject alternative "
                            "name, by which others know its owner"));
  }
  if (Verdict verdict = CheckUse(leaf, files, use); !verdict.ok()) return verdict;
  Verdict verdict;
  int64_t not_after_s = validity->not_after_s;
  if (Verdict trust = CheckTrust(*chain, *authorities, files, now_s, not_after_s); !trust.ok())
    return trust;
  verdict.certificates = {pem,
                          SubjectOf(*leaf),
                          std::move(names.uris),
                          std::move(names.dns),
                          validity->not_before_s,
                          not_after_s};
  return verdict;
}

}  // namespace

const char* NameOf(Problem problem) { return kNames.at(static_cast<size_t>(problem)); }

std::vector<std::string> ProblemNames() { return {kNames.begin(), kNames.end()}; }

Verdict CheckCertificates(const PemTexts& pem, const TlsFiles& files, Use use, int64_t now_s) {
  Verdict verdict = Judge(pem, files, use, now_s);
  // Looking at a damaged extension leaves an error, too. The next user of TLS on this thread would
  // take it for one of its own connection's.
  ERR_clear_error();
  return verdict;
}

}  // namespace tsc_handoff::tls
