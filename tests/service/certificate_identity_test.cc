// Whom a certificate is of, as gRPC tells it: real certificates, a real TLS connection.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "server/service/caller.h"
#include "server/tls/min_version.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff {
namespace {

namespace v1 = tschandoff::v1;
using auth::Identity;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

// Keeps who called last.
class Seeing final : public v1::TscAgent::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetHostInfo(grpc::CallbackServerContext* context,
                                        const v1::GetHostInfoRequest* /*request*/,
                                        v1::GetHostInfoResponse* /*response*/) override {
    seen = service::CallerOf(*context, nullptr);
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  std::shared_ptr<const Identity> seen;
};

class CertificateIdentity : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(tls::SetMinVersion(tls::MinVersion::kTls13).ok()); }

  void SetUp() override {
    char directory[] = "/tmp/tsc-cert.XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(directory_ + "/" + name).rdbuf();
    return text.str();
  }

  // NAME.pem and NAME.key, signed by itself.
  void Make(const std::string& name, const std::string& subject_alternative_names) const {
    const std::string command =
        "cd " + directory_ + " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 " +
        "-nodes -days 2 -subj /CN=" + name + " -keyout " + name + ".key -out " + name + ".pem" +
        (subject_alternative_names.empty()
             ? ""
             : " -addext subjectAltName=" + subject_alternative_names) +
        " 2> " + name + ".log";
    // NOLINTNEXTLINE(cert-env33-c): a command of this test's own words
    ASSERT_EQ(system(command.c_str()), 0) << Read(name + ".log");
  }

  // As whom a caller with (or without) a certificate is seen.
  void Call(const std::string& client, grpc_ssl_client_certificate_request_type request_type) {
    grpc::SslServerCredentialsOptions server_options(request_type);
    server_options.pem_key_cert_pairs = {{Read("server.key"), Read("server.pem")}};
    if (!client.empty()) server_options.pem_root_certs = Read(client + ".pem");
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(server_options), &port);
    builder.RegisterService(&service_);
    const auto server = builder.BuildAndStart();
    ASSERT_NE(server, nullptr);
    grpc::SslCredentialsOptions client_options;
    client_options.pem_root_certs = Read("server.pem");
    if (!client.empty()) {
      client_options.pem_private_key = Read(client + ".key");
      client_options.pem_cert_chain = Read(client + ".pem");
    }
    const auto stub = v1::TscAgent::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(port), grpc::SslCredentials(client_options)));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::GetHostInfoResponse response;
    const grpc::Status status = stub->GetHostInfo(&context, {}, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_NE(service_.seen, nullptr);
  }

  std::string directory_;
  Seeing service_;
};

TEST_F(CertificateIdentity, IsItsUriAndDnsNamesAndNothingElse) {
  ASSERT_NO_FATAL_FAILURE(Make("server", "IP:127.0.0.1"));
  ASSERT_NO_FATAL_FAILURE(
      Make("client",
           "URI:spiffe://example.org/orchestrator,DNS:orchestrator.example.org,DNS:o2.example.org,"
           "email:o@example.org,IP:10.0.0.1"));
  ASSERT_NO_FATAL_FAILURE(
      Call("client", GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY));
  EXPECT_EQ(service_.seen->kind, Identity::Kind::kCertificate);
  EXPECT_THAT(service_.seen->uris, ElementsAre("spiffe://example.org/orchestrator"));
  EXPECT_THAT(service_.seen->dns, ElementsAre("orchestrator.example.org", "o2.example.org"));
  EXPECT_EQ(NameOf(*service_.seen), "spiffe://example.org/orchestrator");
  EXPECT_THAT(OriginOf(*service_.seen), StartsWith("127.0.0.1:"));
}

TEST_F(CertificateIdentity, OneWithoutNamesIsACertificateThatNoPatternMatches) {
  ASSERT_NO_FATAL_FAILURE(Make("server", "IP:127.0.0.1"));
  ASSERT_NO_FATAL_FAILURE(Make("client", ""));
  ASSERT_NO_FATAL_FAILURE(
      Call("client", GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY));
  EXPECT_EQ(service_.seen->kind, Identity::Kind::kCertificate);
  EXPECT_THAT(service_.seen->uris, IsEmpty());
  EXPECT_THAT(service_.seen->dns, IsEmpty());
  EXPECT_EQ(NameOf(*service_.seen), "a certificate without names");
}

// As openssl takes it: "DER:30..." with one name for each of `names`, of up to 100 bytes.
std::string AsDer(const std::vector<std::pair<char, std::string>>& names) {
  std::string body;
  for (const auto& [tag, name] : names)
    body += std::string({tag, static_cast<char>(name.size())}) + name;
  return "DER:" +
         absl::BytesToHexString(std::string({'\x30', static_cast<char>(body.size())}) + body);
}

TEST_F(CertificateIdentity, NamesThatTwoProgramsWouldReadDifferentlyAreNone) {
  constexpr char kUri = '\x86';
  constexpr char kDns = '\x82';
  ASSERT_NO_FATAL_FAILURE(Make("server", "IP:127.0.0.1"));
  ASSERT_NO_FATAL_FAILURE(Make("client", AsDer({{kUri, std::string("spiffe://a/admin\0x", 18)},
                                                {kUri, ""},
                                                {kUri, "spiffe://a/b"},
                                                {kDns, std::string("a.org\0.b.org", 12)},
                                                {kDns, "c.org"}})));
  ASSERT_NO_FATAL_FAILURE(
      Call("client", GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY));
  EXPECT_THAT(service_.seen->uris, ElementsAre("spiffe://a/b"));
  EXPECT_THAT(service_.seen->dns, ElementsAre("c.org"));
}

TEST_F(CertificateIdentity, WhoShowsNoneIsAnonymousEvenByTls) {
  ASSERT_NO_FATAL_FAILURE(Make("server", "IP:127.0.0.1"));
  ASSERT_NO_FATAL_FAILURE(Call("", GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE));
  EXPECT_EQ(service_.seen->kind, Identity::Kind::kAnonymous);
  EXPECT_EQ(NameOf(*service_.seen), "anonymous@127.0.0.1");
  EXPECT_TRUE(service_.seen->tls) << "without a policy plain TCP is for everybody, and this is not";
}

// Why an address with TLS must demand and verify certificates: should gRPC ever tell one that was
// not verified apart, CallerOf can.
TEST_F(CertificateIdentity, GrpcDoesNotSayThatOneWasNotVerified) {
  ASSERT_NO_FATAL_FAILURE(Make("server", "IP:127.0.0.1"));
  ASSERT_NO_FATAL_FAILURE(Make("client", "URI:spiffe://example.org/admin"));
  ASSERT_NO_FATAL_FAILURE(Call("client", GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY));
  EXPECT_EQ(service_.seen->kind, Identity::Kind::kCertificate);
}

}  // namespace
}  // namespace tsc_handoff
