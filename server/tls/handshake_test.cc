// Real handshakes of gRPC's clients with the server's credentials.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "server/tls/certificate_identity.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/testing/test_authority.h"
#include "server/tls/testing/tls_server.h"

namespace tsc_handoff::tls {
namespace {

constexpr char kUnavailable[] = "(14)";

PemTexts ClientOf(const TestAuthority& authority, const std::string& names) {
  CertificateWish wish;
  wish.names = names;
  wish.extended_key_usage = "clientAuth";
  return authority.Texts(wish);
}

class HandshakeTest : public testing::Test {
 protected:
  std::string AskAs(const PemTexts& texts, const std::string& server_name = "") {
    return TlsCaller(server_.address(), MakeChannelCredentials(texts), server_name).Ask();
  }

  const TestAuthority authority_{"authority"};
  TestStore store_{authority_.Texts()};
  const TlsServer server_{store_.store()};
};

TEST_F(HandshakeTest, TheCallerIsKnownByItsUrisAndThenItsDnsNames) {
  EXPECT_EQ(AskAs(ClientOf(authority_,
                           "DNS:one.example.org,URI:spiffe://example.org/orchestrator,"
                           "IP:10.0.0.1,email:a@example.org,URI:https://example.org/x,"
                           "DNS:two.example.org")),
            "spiffe://example.org/orchestrator https://example.org/x one.example.org "
            "two.example.org");
}

TEST_F(HandshakeTest, ACommonNameIsNobodysName) {
  CertificateWish wish;
  wish.common_name = "spiffe://example.org/orchestrator";
  wish.names = "DNS:one.example.org";
  EXPECT_EQ(AskAs(authority_.Texts(wish)), "one.example.org");
}

TEST_F(HandshakeTest, WithoutACertificateNobodyIsLetIn) {
  PemTexts texts;
  texts.ca = authority_.cert();
  EXPECT_EQ(AskAs(texts), kUnavailable);
}

TEST_F(HandshakeTest, WithoutTlsNobodyIsLetIn) {
  EXPECT_EQ(TlsCaller(server_.address(), grpc::InsecureChannelCredentials()).Ask(), kUnavailable);
}

TEST_F(HandshakeTest, AnotherAuthoritysCertificateIsRefused) {
  PemTexts texts = TestAuthority("authority").Texts();
  texts.ca = authority_.cert();
  EXPECT_EQ(AskAs(texts), kUnavailable);
}

TEST_F(HandshakeTest, AnExpiredCertificateIsRefused) {
  CertificateWish wish;
  wish.not_after_s = RealNowS() - 60;
  EXPECT_EQ(AskAs(authority_.Texts(wish)), kUnavailable);
}

TEST_F(HandshakeTest, AServersCertificateIsNoClients) {
  CertificateWish wish;
  wish.extended_key_usage = "serverAuth";
  EXPECT_EQ(AskAs(authority_.Texts(wish)), kUnavailable);
}

TEST_F(HandshakeTest, TheCallerRefusesAServerOfAnotherName) {
  const PemTexts caller = ClientOf(authority_, "DNS:caller.example.org");
  EXPECT_EQ(AskAs(caller), "caller.example.org") << "by its IP address";
  EXPECT_EQ(AskAs(caller, "agent.example.org"), "caller.example.org");
  EXPECT_EQ(AskAs(caller, "other.example.org"), kUnavailable);
  CertificateWish elsewhere;
  elsewhere.names = "DNS:agent.example.org,IP:10.0.0.1";
  store_.Swap(authority_.Texts(elsewhere));
  EXPECT_EQ(AskAs(caller), kUnavailable) << "the same authority, another host";
}

TEST_F(HandshakeTest, TheCallerRefusesAServerOfAnotherAuthority) {
  PemTexts caller = ClientOf(authority_, "DNS:caller.example.org");
  caller.ca = TestAuthority("authority").cert();
  EXPECT_EQ(AskAs(caller), kUnavailable);
}

TEST_F(HandshakeTest, NewCertificatesServeNewConnectionsAndLeaveTheOldOnesAlone) {
  const PemTexts caller = ClientOf(authority_, "DNS:caller.example.org");
  TlsCaller old(server_.address(), MakeChannelCredentials(caller));
  ASSERT_EQ(old.Ask(), "caller.example.org");
  const TestAuthority next("next");
  store_.Swap(next.Texts());
  EXPECT_EQ(old.Ask(), "caller.example.org") << "its connection stands";
  EXPECT_EQ(AskAs(caller), kUnavailable) << "nobody vouches for it any more";
  EXPECT_EQ(AskAs(ClientOf(next, "DNS:next.example.org")), "next.example.org");
}

TEST_F(HandshakeTest, EachPortHasThem) {
  const TlsServer server(store_.store(), 3);
  const TestAuthority next("next");
  const PemTexts before = ClientOf(authority_, "DNS:a.example.org");
  const PemTexts after = ClientOf(next, "DNS:b.example.org");
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(TlsCaller(server.address(i), MakeChannelCredentials(before)).Ask(), "a.example.org");
  store_.Swap(next.Texts());
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(TlsCaller(server.address(i), MakeChannelCredentials(after)).Ask(), "b.example.org");
}

TEST_F(HandshakeTest, HandshakesGoOnWhileCertificatesAreSwapped) {
  constexpr int kThreads = 4;
  constexpr int kConnections = 25;
  const PemTexts caller = ClientOf(authority_, "DNS:caller.example.org");
  std::atomic<int> running{kThreads};
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kConnections; ++n) failed += AskAs(caller) != "caller.example.org";
      --running;
    });
  }
  int swaps = 0;
  for (; running > 0; ++swaps) store_.Swap(authority_.Texts());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(swaps, 0);
}

TEST(CertificateIdentitiesTest, AConnectionWithoutTlsHasNone) {
  class Nothing final : public grpc::AuthPropertyIterator {};
  class Forged final : public grpc::AuthContext {
   public:
    bool IsPeerAuthenticated() const override { return authenticated; }
    std::vector<grpc::string_ref> GetPeerIdentity() const override { return {}; }
    std::string GetPeerIdentityPropertyName() const override { return ""; }
    std::vector<grpc::string_ref> FindPropertyValues(const std::string& name) const override {
      if (name == "transport_security_type") return {type};
      if (name == "peer_uri") return {"spiffe://example.org/forged"};
      return {};
    }
    grpc::AuthPropertyIterator begin() const override { return Nothing(); }
    grpc::AuthPropertyIterator end() const override { return Nothing(); }
    void AddProperty(const std::string&, const grpc::string_ref&) override {}
    bool SetPeerIdentityPropertyName(const std::string&) override { return true; }

    const char* type = "ssl";
    bool authenticated = true;
  };
  Forged context;
  EXPECT_THAT(CertificateIdentities(context), testing::SizeIs(1));
  context.type = "insecure";
  EXPECT_THAT(CertificateIdentities(context), testing::IsEmpty());
  context.type = "ssl";
  context.authenticated = false;
  EXPECT_THAT(CertificateIdentities(context), testing::IsEmpty());
}

}  // namespace
}  // namespace tsc_handoff::tls
