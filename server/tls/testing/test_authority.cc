#include "server/tls/testing/test_authority.h"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include <cstdlib>
#include <ctime>
#include <memory>

namespace tsc_handoff::tls {
namespace {

using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;

// A test without certificates is none.
void Require(bool condition) {
  if (!condition) std::abort();
}

KeyPtr NewKey(int rsa_bits) {
  KeyPtr key(rsa_bits > 0 ? EVP_RSA_gen(static_cast<unsigned>(rsa_bits)) : EVP_EC_gen("P-256"));
  Require(key != nullptr);
  return key;
}

std::string Contents(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<size_t>(size)};
}

std::string PemOf(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  Require(PEM_write_bio_X509(bio.get(), certificate) == 1);
  return Contents(bio.get());
}

std::string PemOf(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  Require(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return Contents(bio.get());
}

CertificatePtr Blank(const std::string& common_name, EVP_PKEY* key, int64_t not_before_s,
                     int64_t not_after_s) {
  CertificatePtr certificate(X509_new());
  X509* const raw = certificate.get();
  uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  X509_set_version(raw, X509_VERSION_3);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(raw), serial >> 1);
  ASN1_TIME_set(X509_getm_notBefore(raw), not_before_s);
  ASN1_TIME_set(X509_getm_notAfter(raw), not_after_s);
  X509_set_pubkey(raw, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(raw), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  return certificate;
}

void Extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  Require(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1);
}

}  // namespace

int64_t RealNowS() { return static_cast<int64_t>(std::time(nullptr)); }

TestAuthority::TestAuthority(const std::string& name, const TestAuthority* parent,
                             int64_t not_after_s)
    : key_(NewKey(0)), certificate_(Blank(name, key_.get(), RealNowS() - 86400, not_after_s)) {
  X509* const raw = certificate_.get();
  X509* const issuer = parent == nullptr ? raw : parent->certificate_.get();
  X509_set_issuer_name(raw, X509_get_subject_name(issuer));
  Extend(raw, issuer, NID_basic_constraints, "critical,CA:TRUE");
  Extend(raw, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
  Extend(raw, issuer, NID_subject_key_identifier, "hash");
  Require(X509_sign(raw, parent == nullptr ? key_.get() : parent->key_.get(), EVP_sha256()) > 0);
  pem_ = PemOf(raw);
}

Issued TestAuthority::Issue(const CertificateWish& wish) const {
  const KeyPtr key = NewKey(wish.rsa_bits);
  const CertificatePtr leaf =
      Blank(wish.common_name, key.get(), wish.not_before_s, wish.not_after_s);
  X509* const raw = leaf.get();
  X509_set_issuer_name(raw, X509_get_subject_name(certificate_.get()));
  Extend(raw, certificate_.get(), NID_basic_constraints, "critical,CA:FALSE");
  Extend(raw, certificate_.get(), NID_authority_key_identifier, "keyid:always");
  if (!wish.names.empty()) Extend(raw, certificate_.get(), NID_subject_alt_name, wish.names);
  if (!wish.extended_key_usage.empty())
    Extend(raw, certificate_.get(), NID_ext_key_usage, wish.extended_key_usage);
  Require(X509_sign(raw, key_.get(), EVP_sha256()) > 0);
  return {PemOf(raw), PemOf(key.get())};
}

PemTexts TestAuthority::Texts(const CertificateWish& wish) const {
  const Issued issued = Issue(wish);
  return {cert(), issued.cert, issued.key};
}

}  // namespace tsc_handoff::tls
