#include "server/tls/certificate_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/tls/testing/test_authority.h"

namespace tsc_handoff::tls {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const TlsFiles kFiles = {"ca.crt", "tls.crt", "tls.key"};

Verdict Check(const PemTexts& texts, Use use = Use::kAgent) {
  return CheckCertificates(texts, kFiles, use, RealNowS());
}

TEST(CertificateCheckTest, FindsGoodOnesGoodAndTellsWhoseTheyAre) {
  const TestAuthority authority("authority");
  CertificateWish wish;
  wish.names = "DNS:a.example.org,URI:spiffe://example.org/agent,DNS:b.example.org,IP:10.0.0.1";
  const Verdict verdict = Check(authority.Texts(wish));
  ASSERT_TRUE(verdict.ok()) << verdict.why;
  EXPECT_EQ(verdict.certificates.subject, "CN=agent");
  EXPECT_THAT(verdict.certificates.uris, ElementsAre("spiffe://example.org/agent"));
  EXPECT_THAT(verdict.certificates.dns, ElementsAre("a.example.org", "b.example.org"));
  EXPECT_EQ(verdict.certificates.not_before_s, wish.not_before_s);
  EXPECT_EQ(verdict.certificates.not_after_s, wish.not_after_s);
}

TEST(CertificateCheckTest, AChainMayHaveIntermediateAuthorities) {
  const TestAuthority root("root");
  const TestAuthority middle("middle", &root, RealNowS() + 60);
  PemTexts texts = middle.Texts();
  texts.ca = root.cert();
  EXPECT_EQ(Check(texts).problem, Problem::kUntrusted) << "without the one in the middle";
  texts.cert += middle.cert();
  const Verdict verdict = Check(texts);
  ASSERT_TRUE(verdict.ok()) << verdict.why;
  EXPECT_EQ(verdict.certificates.not_after_s, RealNowS() + 60) << "the first in the chain to end";
}

TEST(CertificateCheckTest, AnIntermediateAuthorityAloneMayBeTrusted) {
  const TestAuthority root("root");
  const TestAuthority middle("middle", &root);
  const Verdict verdict = Check(middle.Texts());
  EXPECT_TRUE(verdict.ok()) << verdict.why;
}

TEST(CertificateCheckTest, SeveralAuthoritiesMayVouchWhileOneReplacesTheOther) {
  const TestAuthority before("before");
  const TestAuthority after("after");
  PemTexts texts = before.Texts();
  texts.ca = after.cert() + before.cert();
  const Verdict verdict = Check(texts);
  EXPECT_TRUE(verdict.ok()) << verdict.why;
}

TEST(CertificateCheckTest, ATimeIsOfTheCertificateUpToTheSecond) {
  const TestAuthority authority("authority");
  const CertificateWish wish;
  const PemTexts texts = authority.Texts(wish);
  const auto at = [&](int64_t now_s) {
    return CheckCertificates(texts, kFiles, Use::kAgent, now_s).problem;
  };
  EXPECT_EQ(at(wish.not_before_s - 1), Problem::kNotYetValid);
  EXPECT_EQ(at(wish.not_before_s), Problem::kNone);
  EXPECT_EQ(at(wish.not_after_s - 1), Problem::kNone);
  EXPECT_EQ(at(wish.not_after_s), Problem::kExpired);
}

struct BadCase {
  const char* name;
  PemTexts (*make)(const TestAuthority& authority);
  Problem problem;
  const char* text;
};

constexpr char kEncryptedKey[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhkqlI8Mj4SUAICCAAw\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n";

const BadCase kBadCases[] = {
    {"no certificate",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.cert = "hello";
       return texts;
     },
     Problem::kUnreadable, "tls.crt: there is no PEM certificate"},
    {"half a certificate",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.cert.resize(texts.cert.size() / 2);
       return texts;
     },
     Problem::kUnreadable, "tls.crt: a certificate is damaged"},
    {"a damaged certificate behind a good one",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.cert += "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
       return texts;
     },
     Problem::kUnreadable, "tls.crt: a certificate is damaged"},
    {"no authority",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.ca = "\n";
       return texts;
     },
     Problem::kUnreadable, "ca.crt: there is no PEM certificate"},
    {"no key",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.key = texts.cert;
       return texts;
     },
     Problem::kUnreadable, "tls.key: there is no PEM private key"},
    {"an encrypted key",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.key = kEncryptedKey;
       return texts;
     },
     Problem::kUnreadable, "tls.key: "},
    {"another certificate's key",
     [](const TestAuthority& authority) {
       PemTexts texts = authority.Texts();
       texts.key = authority.Issue().key;
       return texts;
     },
     Problem::kKeyMismatch, "tls.key is not the key of the first certificate in tls.crt"},
    {"expired",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.not_after_s = RealNowS() - 1;
       return authority.Texts(wish);
     },
     Problem::kExpired, "expired at 20"},
    {"not yet valid",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.not_before_s = RealNowS() + 600;
       return authority.Texts(wish);
     },
     Problem::kNotYetValid, "is this host's clock right?"},
    {"without names",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.names = "";
       return authority.Texts(wish);
     },
     Problem::kNoName, "neither a URI nor a DNS"},
    {"with an IP address alone",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.names = "IP:10.0.0.1";
       return authority.Texts(wish);
     },
     Problem::kNoName, "neither a URI nor a DNS"},
    {"for servers only",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.extended_key_usage = "serverAuth";
       return authority.Texts(wish);
     },
     Problem::kWrongUse, "does not permit a TLS client"},
    {"for clients only",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.extended_key_usage = "clientAuth";
       return authority.Texts(wish);
     },
     Problem::kWrongUse, "does not permit a TLS server"},
    {"of another authority",
     [](const TestAuthority& authority) {
       PemTexts texts = TestAuthority("authority").Texts();  // even of the same name
       texts.ca = authority.cert();
       return texts;
     },
     Problem::kUntrusted, "ca.crt does not vouch for tls.crt"},
    {"of an authority that has expired",
     [](const TestAuthority&) { return TestAuthority("old", nullptr, RealNowS() - 60).Texts(); },
     Problem::kUntrusted, "certificate has expired"},
    {"with a key that is too weak",
     [](const TestAuthority& authority) {
       CertificateWish wish;
       wish.rsa_bits = 1024;
       return authority.Texts(wish);
     },
     Problem::kUntrusted, "key too weak"},
};

TEST(CertificateCheckTest, NamesEachProblemAndTheFile) {
  const TestAuthority authority("authority");
  for (const BadCase& bad : kBadCases) {
    SCOPED_TRACE(bad.name);
    const Verdict verdict = Check(bad.make(authority));
    EXPECT_STREQ(NameOf(verdict.problem), NameOf(bad.problem)) << verdict.why;
    EXPECT_THAT(verdict.why, HasSubstr(bad.text));
  }
}

TEST(CertificateCheckTest, AClientNeedsNoServersUse) {
  const TestAuthority authority("authority");
  CertificateWish wish;
  wish.extended_key_usage = "clientAuth";
  EXPECT_EQ(Check(authority.Texts(wish), Use::kClient).problem, Problem::kNone);
  wish.extended_key_usage = "serverAuth";
  EXPECT_EQ(Check(authority.Texts(wish), Use::kClient).problem, Problem::kWrongUse);
  wish.extended_key_usage = "";
  EXPECT_EQ(Check(authority.Texts(wish), Use::kAgent).problem, Problem::kNone) << "no limit at all";
}

TEST(ProblemTest, EveryOneHasAName) {
  EXPECT_EQ(ProblemNames().size(), static_cast<size_t>(Problem::kUntrusted) + 1);
  EXPECT_STREQ(NameOf(Problem::kNone), "ok");
  EXPECT_STREQ(NameOf(Problem::kUntrusted), "untrusted");
}

}  // namespace
}  // namespace tsc_handoff::tls
