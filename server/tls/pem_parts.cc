#include "server/tls/pem_parts.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace tsc_handoff::tls {
namespace {

BioPtr BioOf(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// OpenSSL's own words for its last error.
std::string LastError() {
  const unsigned long error = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(error);
  ERR_clear_error();
  return reason == nullptr ? "it cannot be read" : reason;
}

int NoPassword(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 0;
}

absl::StatusOr<int64_t> Seconds(const ASN1_TIME* time) {
  std::tm parts = {};
  if (ASN1_TIME_to_tm(time, &parts) != 1)
    return absl::InvalidArgumentError("its validity is no time");
  return static_cast<int64_t>(timegm(&parts));
}

}  // namespace

absl::StatusOr<Chain> ParseCertificates(const std::string& pem) {
  const BioPtr bio = BioOf(pem);
  Chain chain;
  for (;;) {
    CertificatePtr certificate(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr));
    if (certificate == nullptr) break;
    chain.push_back(std::move(certificate));
  }
  // The text always ends with "no start line", which is what the end looks like.
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
    return absl::InvalidArgumentError(absl::StrCat("a certificate is damaged: ", LastError()));
  ERR_clear_error();
  if (chain.empty()) return absl::InvalidArgumentError("there is no PEM certificate in it");
  return chain;
}

absl::StatusOr<KeyPtr> ParseKey(const std::string& pem) {
  const BioPtr bio = BioOf(pem);
  bool asked = false;
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, &asked));
  if (key != nullptr) {
    ERR_clear_error();
    return key;
  }
  const std::string why = LastError();
  if (asked) return absl::InvalidArgumentError("the private key is encrypted; decrypt it");
  return absl::InvalidArgumentError(absl::StrCat("there is no PEM private key in it: ", why));
}

absl::StatusOr<Validity> ValidityOf(const X509& certificate) {
  const auto not_before = Seconds(X509_get0_notBefore(&certificate));
  if (!not_before.ok()) return not_before.status();
  const auto not_after = Seconds(X509_get0_notAfter(&certificate));
  if (!not_after.ok()) return not_after.status();
  return Validity{*not_before, *not_after};
}

AlternativeNames NamesOf(const X509& certificate) {
  AlternativeNames result;
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  ERR_clear_error();
  if (names == nullptr) return result;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI && name->type != GEN_DNS) continue;
    const ASN1_IA5STRING* const value =
        name->type == GEN_URI ? name->d.uniformResourceIdentifier : name->d.dNSName;
    std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                     static_cast<size_t>(ASN1_STRING_length(value)));
    if (text.empty() || text.find('\0') != std::string::npos) continue;
    (name->type == GEN_URI ? result.uris : result.dns).push_back(std::move(text));
  }
  return result;
}

std::string SubjectOf(const X509& certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(&certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(size)};
}

std::string TimeText(int64_t seconds) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixSeconds(seconds),
                          absl::UTCTimeZone());
}

}  // namespace tsc_handoff::tls
