// Certificates, keys and authorities as files of them might be: any PEM text; right certificates
// whose DER was damaged; and certificates made to order, of which it is known what is wrong with
// them. What is found good is good: signed, in its time, for its use, and of no name that the
// authority has not signed.
#include <openssl/err.h>
#include <openssl/pem.h>

#include <array>
#include <iterator>
#include <memory>

#include "absl/strings/match.h"
#include "server/tls/certificate_check.h"
#include "server/tls/openssl_types.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

using tls::CertificatePtr;
using tls::KeyPtr;
using tls::PemTexts;
using tls::Use;

enum Kind : uint8_t { kPem = 0, kLeafDer = 1, kAuthorityDer = 2, kMade = 3, kKinds = 4 };

constexpr int64_t kNowS = 1'800'000'000;
constexpr int64_t kDayS = 86'400;
const tls::TlsFiles kFiles = {"ca.pem", "cert.pem", "key.pem"};

constexpr char kGoodNames[] = "URI:spiffe://example.org/agent,DNS:agent.example.org";

// Ed25519, whose keys and signatures are the same each time.
KeyPtr Key(uint8_t number) {
  std::array<uint8_t, 32> secret = {};
  secret.fill(number);
  KeyPtr key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size()));
  FUZZ_CHECK(key != nullptr);
  return key;
}

constexpr uint8_t kAuthorityKey = 1;
constexpr uint8_t kLeafKey = 2;
constexpr uint8_t kStrangeKey = 3;
constexpr uint8_t kMiddleKey = 4;

struct Wish {
  std::string subject = "agent";
  std::string issuer = "authority";
  uint8_t key = kLeafKey;
  uint8_t signer = kAuthorityKey;
  std::string names = kGoodNames;  // empty: none
  int64_t not_before_s = kNowS - kDayS;
  int64_t not_after_s = kNowS + kDayS;
  std::string extended_key_usage = "serverAuth,clientAuth";  // empty: none
  bool is_authority = false;
};

void SetName(X509_NAME* name, const std::string& text) {
  FUZZ_CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                        reinterpret_cast<const unsigned char*>(text.c_str()), -1,
                                        -1, 0) == 1);
}

void Extend(X509* certificate, int nid, const std::string& value) {
  using ExtensionPtr = std::unique_ptr<X509_EXTENSION, tls::Freed<X509_EXTENSION_free>>;
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str()));
  FUZZ_CHECK(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1);
}

CertificatePtr Make(const Wish& wish) {
  CertificatePtr certificate(X509_new());
  X509* const raw = certificate.get();
  X509_set_version(raw, X509_VERSION_3);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(raw), 7);
  ASN1_TIME_set(X509_getm_notBefore(raw), wish.not_before_s);
  ASN1_TIME_set(X509_getm_notAfter(raw), wish.not_after_s);
  X509_set_pubkey(raw, Key(wish.key).get());
  SetName(X509_get_subject_name(raw), wish.subject);
  SetName(X509_get_issuer_name(raw), wish.issuer);
  Extend(raw, NID_basic_constraints, wish.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (wish.is_authority) Extend(raw, NID_key_usage, "critical,keyCertSign,cRLSign");
  if (!wish.names.empty()) Extend(raw, NID_subject_alt_name, wish.names);
  if (!wish.extended_key_usage.empty()) Extend(raw, NID_ext_key_usage, wish.extended_key_usage);
  FUZZ_CHECK(X509_sign(raw, Key(wish.signer).get(), nullptr) > 0);
  return certificate;
}

Wish AuthorityWish() {
  Wish wish;
  wish.subject = "authority";
  wish.key = kAuthorityKey;
  wish.names = "";
  wish.extended_key_usage = "";
  wish.not_before_s = kNowS - 100 * kDayS;
  wish.not_after_s = kNowS + 100 * kDayS;
  wish.is_authority = true;
  return wish;
}

std::string Contents(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<size_t>(size)};
}

std::string PemOf(const CertificatePtr& certificate) {
  const tls::BioPtr bio(BIO_new(BIO_s_mem()));
  FUZZ_CHECK(PEM_write_bio_X509(bio.get(), certificate.get()) == 1);
  return Contents(bio.get());
}

std::string PemOf(const KeyPtr& key) {
  const tls::BioPtr bio(BIO_new(BIO_s_mem()));
  FUZZ_CHECK(
      PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return Contents(bio.get());
}

std::string DerOf(const CertificatePtr& certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate.get(), &der);
  FUZZ_CHECK(size > 0);
  std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return out;
}

std::string PemOfDer(const std::string& der) {
  const tls::BioPtr bio(BIO_new(BIO_s_mem()));
  FUZZ_CHECK(PEM_write_bio(bio.get(), "CERTIFICATE", "",
                           reinterpret_cast<const unsigned char*>(der.data()),
                           static_cast<long>(der.size())) >= 0);
  return Contents(bio.get());
}

const PemTexts& Good() {
  static const auto* const good =
      new PemTexts{PemOf(Make(AuthorityWish())), PemOf(Make(Wish())), PemOf(Key(kLeafKey))};
  return *good;
}

// What holds of every verdict.
tls::Verdict Check(const PemTexts& pem, Use use) {
  const tls::Verdict verdict = tls::CheckCertificates(pem, kFiles, use, kNowS);
  FUZZ_CHECK(ERR_peek_error() == 0);
  FUZZ_CHECK(verdict.ok() == verdict.why.empty());
  if (!verdict.ok()) return verdict;
  const tls::Certificates& found = verdict.certificates;
  FUZZ_CHECK(found.not_before_s <= kNowS && kNowS < found.not_after_s);
  FUZZ_CHECK(!found.uris.empty() || !found.dns.empty());
  for (const auto* names : {&found.uris, &found.dns}) {
    for (const std::string& name : *names)
      FUZZ_CHECK(!name.empty() && !absl::StrContains(name, '\0'));
  }
  return verdict;
}

// With the authority's real certificate, nothing that it did not sign is good.
void CheckNotForged(const tls::Verdict& verdict) {
  if (!verdict.ok()) return;
  FUZZ_CHECK(verdict.certificates.uris == std::vector<std::string>{"spiffe://example.org/agent"});
  FUZZ_CHECK(verdict.certificates.dns == std::vector<std::string>{"agent.example.org"});
  FUZZ_CHECK(verdict.certificates.subject == "CN=agent");
  FUZZ_CHECK(verdict.certificates.not_after_s == kNowS + kDayS);
}

void TryPem(Bytes& bytes, Use use) {
  PemTexts pem = Good();
  const auto which = bytes.Take<uint8_t>() % 8;
  // Each of the files is the input's where its bit is set; 0 is the certificate alone.
  if (which == 0) {
    pem.cert = bytes.TakeRest();
    CheckNotForged(Check(pem, use));
    return;
  }
  if ((which & 1) != 0) pem.ca = bytes.TakeSized();
  if ((which & 2) != 0) pem.cert = bytes.TakeSized();
  if ((which & 4) != 0) pem.key = bytes.TakeSized();
  const tls::Verdict verdict = Check(pem, use);
  // A good certificate and its key, and other authorities: they may vouch for it or not.
  if ((which & 2) == 0) CheckNotForged(verdict);
}

void TryMade(Bytes& bytes, Use use) {
  constexpr const char* kNames[] = {kGoodNames, "URI:spiffe://example.org/b", "DNS:b.example.org",
                                    "IP:127.0.0.1,email:a@example.org", ""};
  constexpr const char* kUsages[] = {"serverAuth,clientAuth", "clientAuth", "serverAuth",
                                     "codeSigning", ""};
  // From long ago to far away, with now between.
  constexpr int64_t kTimesS[] = {-10 * kDayS, -1, 0, 1, 10 * kDayS};
  Wish wish;
  const auto names = bytes.Take<uint8_t>() % std::size(kNames);
  const auto usage = bytes.Take<uint8_t>() % std::size(kUsages);
  const int64_t from_s = kTimesS[bytes.Take<uint8_t>() % std::size(kTimesS)];
  const int64_t to_s = kTimesS[bytes.Take<uint8_t>() % std::size(kTimesS)];
  const auto how = bytes.Take<uint8_t>();
  const bool strange_signer = how % 2 == 1;
  const bool strange_key = how / 2 % 2 == 1;
  const bool has_middle = how / 4 % 2 == 1;
  const bool middle_is_authority = how / 8 % 2 == 1;
  const bool shows_middle = how / 16 % 2 == 1;
  wish.names = kNames[names];
  wish.extended_key_usage = kUsages[usage];
  wish.not_before_s = kNowS + from_s;
  wish.not_after_s = kNowS + to_s;
  wish.issuer = has_middle ? "middle" : "authority";
  wish.signer = strange_signer ? kStrangeKey : has_middle ? kMiddleKey : kAuthorityKey;
  PemTexts pem = {Good().ca, PemOf(Make(wish)), PemOf(Key(strange_key ? kStrangeKey : kLeafKey))};
  if (has_middle && shows_middle) {
    Wish middle = AuthorityWish();
    middle.subject = "middle";
    middle.key = kMiddleKey;
    middle.is_authority = middle_is_authority;
    pem.cert += PemOf(Make(middle));
  }
  const bool in_time = from_s <= 0 && to_s > 0;
  const bool named = names < 3;
  const bool usable = usage == 0 || usage == 4 || (usage == 1 && use == Use::kClient);
  const bool trusted = !strange_signer && (!has_middle || (shows_middle && middle_is_authority));
  const tls::Verdict verdict = Check(pem, use);
  FUZZ_CHECK(verdict.ok() == (in_time && named && usable && trusted && !strange_key));
  if (verdict.ok()) FUZZ_CHECK(verdict.certificates.not_after_s == wish.not_after_s);
}

std::string Input(Kind kind, const std::string& rest) {
  // An agent's, then a client's.
  return std::string({static_cast<char>(kind), '\0'}) + rest;
}

}  // namespace

std::vector<std::string> Seeds() {
  const Wish leaf;
  // Signed by a stranger, for what is good is the one that is known.
  Wish odd;
  odd.signer = kStrangeKey;
  odd.names = "URI:urn:x,otherName:1.2.3.4;UTF8:a,IP:::1,RID:1.2.3,DNS:*.example.org";
  std::vector<std::string> seeds = {
      Input(kPem, '\0' + Good().cert),
      Input(kPem, '\0' + Good().cert + Good().ca + "-----BEGIN CERTIFICATE-----\n"),
      Input(kPem, '\x07' + Sized(Good().ca) + Sized(Good().cert) + Sized(Good().key)),
      Input(kPem, '\x04' + Sized("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n"
                                 "-----END ENCRYPTED PRIVATE KEY-----\n")),
      Input(kLeafDer, DerOf(Make(leaf))),
      Input(kAuthorityDer, DerOf(Make(AuthorityWish()))),
  };
  seeds.push_back(Input(kLeafDer, DerOf(Make(odd))));
  // A set in the place of the sequence of its uses.
  std::string damaged = DerOf(Make(leaf));
  const size_t uses = damaged.find("\x04\x16\x30\x14");
  FUZZ_CHECK(uses != std::string::npos);
  damaged[uses + 2] = '\x31';
  seeds.push_back(Input(kLeafDer, damaged));
  Wish time;
  time.signer = kStrangeKey;
  time.not_after_s = kNowS + int64_t{10'000} * 365 * kDayS / 3;
  seeds.push_back(Input(kLeafDer, DerOf(Make(time))));
  for (const char how : {0, 1, 2, 4, 20, 28, 29})
    seeds.push_back(Input(kMade, std::string({'\0', '\0', '\1', '\4', how})));
  seeds.push_back(Input(kMade, std::string({'\3', '\0', '\1', '\4', '\0'})));
  seeds.push_back(Input(kMade, std::string({'\0', '\1', '\2', '\3', '\0'})));
  return seeds;
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  Bytes bytes(data, size);
  const uint8_t kind = bytes.Take<uint8_t>() % kKinds;
  const Use use = bytes.Take<uint8_t>() % 2 == 0 ? Use::kAgent : Use::kClient;
  if (kind == kPem) {
    TryPem(bytes, use);
  } else if (kind == kMade) {
    TryMade(bytes, use);
  } else {
    PemTexts pem = Good();
    (kind == kLeafDer ? pem.cert : pem.ca) = PemOfDer(bytes.TakeRest());
    CheckNotForged(Check(pem, use));
  }
  return 0;
}
