// Agents that serve and probe each other by mutual TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/lib/agent_client.h"
#include "client/lib/rpc_error.h"
#include "server/auth/policy.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/testing/test_authority.h"
#include "server/tls/testing/test_directory.h"
#include "tests/service/pair.h"
#include "tests/sim_agent/sim_node.h"

namespace tsc_handoff {
namespace {

using testing::HasSubstr;

// An agent on a simulated host, with certificates of its own.
struct TlsNode {
  explicit TlsNode(const tls::PemTexts& texts, const std::string& peer_name = "") {
    directory.Put(texts);
    sim::SimNodeOptions options;
    options.agent.transport.insecure_tcp = false;
    options.agent.transport.tls = directory.files();
    options.agent.transport.peer_name = peer_name;
    // Whoever has a certificate of the authority may do everything: here it is the handshake that
    // is tried.
    auth::Policy policy;
    policy.bindings.push_back(
        {.role = auth::Role::kAdmin, .certificates = {"spiffe://example.org/*"}});
    options.agent.policy = std::make_shared<const auth::Policy>(policy);
    auto started = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options);
    EXPECT_TRUE(started.ok()) << started.status();
    if (started.ok()) node = *std::move(started);
  }

  void Swap(const tls::PemTexts& texts) {
    directory.Put(texts);
    // False where the watch was quicker.
    node->agent().ReloadCertificates();
  }

  std::unique_ptr<client::AgentClient> Client(const tls::PemTexts& texts) const {
    client::AgentClientOptions options;
    options.timeout = kPatience;
    options.credentials = tls::MakeChannelCredentials(texts);
    auto client = client::AgentClient::Connect(node->address(), std::move(options));
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  tls::TestDirectory directory;
  std::unique_ptr<sim::SimNode> node;
};

class TlsTest : public testing::Test {
 protected:
  const tls::TestAuthority authority_{"authority"};
  const tls::TestAuthority stranger_{"stranger"};
};

TEST_F(TlsTest, CallersWithACertificateAreServedAndOthersAreNot) {
  const TlsNode agent(authority_.Texts());
  EXPECT_TRUE(agent.Client(authority_.Texts())->GetHostInfo().ok());
  tls::PemTexts other = stranger_.Texts();
  other.ca = authority_.cert();
  EXPECT_TRUE(client::IsUnreachable(agent.Client(other)->GetHostInfo().status()));
  EXPECT_TRUE(client::IsUnreachable(ClientOf(*agent.node)->GetHostInfo().status()))
      << "without TLS";
}

TEST_F(TlsTest, AgentsProbeEachOtherByTheirCertificates) {
  const TlsNode one(authority_.Texts());
  const TlsNode two(authority_.Texts());
  const auto caller = one.Client(authority_.Texts());
  const auto compared = caller->CompareClocks(two.node->address());
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_GT(compared->probe().rounds(), 0u);

  const TlsNode three(stranger_.Texts());
  const absl::Status refused = caller->CompareClocks(three.node->address()).status();
  EXPECT_EQ(client::ReasonNameOf(refused), "PEER_UNREACHABLE") << refused;
}

TEST_F(TlsTest, AnAgentExpectsTheNameOfThePeerThatItIsTold) {
  tls::CertificateWish nameless;
  nameless.names = "DNS:tsc-agent.example.org";
  const TlsNode two(authority_.Texts(nameless));
  const TlsNode by_host(authority_.Texts());
  EXPECT_EQ(client::ReasonNameOf(
                by_host.Client(authority_.Texts())->CompareClocks(two.node->address()).status()),
            "PEER_UNREACHABLE");
  const TlsNode by_name(authority_.Texts(), "tsc-agent.example.org");
  const auto compared = by_name.Client(authority_.Texts())->CompareClocks(two.node->address());
  EXPECT_TRUE(compared.ok()) << compared.status();
}

TEST_F(TlsTest, ProbesShowTheNewCertificateOnceItIsInUse) {
  TlsNode one(authority_.Texts());
  TlsNode two(authority_.Texts());
  const auto caller = one.Client(authority_.Texts());
  ASSERT_TRUE(caller->CompareClocks(two.node->address()).ok());
  // The connection of the probe before stands, and would do.
  one.Swap(stranger_.Texts());
  EXPECT_FALSE(caller->CompareClocks(two.node->address()).ok());
  two.Swap(stranger_.Texts());
  const auto compared = caller->CompareClocks(two.node->address());
  EXPECT_TRUE(compared.ok()) << compared.status();
}

TEST_F(TlsTest, WithoutCertificatesNobodyBeyondThisHostIsProbed) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const absl::Status refused = pair.from->CompareClocks("192.0.2.1:50051").status();
  EXPECT_EQ(client::ReasonNameOf(refused), "PEER_UNREACHABLE") << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("start it with --tls-cert"));
}

TEST_F(TlsTest, ABadCertificateStopsTheStart) {
  tls::TestDirectory directory;
  tls::PemTexts texts = authority_.Texts();
  texts.key = authority_.Issue().key;
  directory.Put(texts);
  sim::SimNodeOptions options;
  options.agent.transport.insecure_tcp = false;
  options.agent.transport.tls = directory.files();
  const auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options);
  ASSERT_FALSE(node.ok());
  EXPECT_THAT(std::string(node.status().message()), HasSubstr("tls.key is not the key"));
}

}  // namespace
}  // namespace tsc_handoff
