// In a process of its own, as it changes the process.
#include "server/tls/min_version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <memory>

#include "server/base/unique_fd.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/openssl_types.h"
#include "server/tls/testing/test_authority.h"
#include "server/tls/testing/tls_server.h"

namespace tsc_handoff::tls {
namespace {

using testing::Not;
using testing::StartsWith;

// The version of a connection by a client that offers up to `max_version`; what OpenSSL says of its
// failure otherwise.
std::string Connect(int port, int max_version, const PemTexts& texts) {
  using ContextPtr = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
  using ConnectionPtr = std::unique_ptr<SSL, Freed<SSL_free>>;
  const ContextPtr context(SSL_CTX_new(TLS_client_method()));
  // Whatever the process demands of itself, this client is another one.
  SSL_CTX_clear_options(context.get(), SSL_OP_NO_TLSv1_1 | SSL_OP_NO_TLSv1_2);
  SSL_CTX_set_security_level(context.get(), 0);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_1_VERSION);
  SSL_CTX_set_max_proto_version(context.get(), max_version);
  const BioPtr cert(BIO_new_mem_buf(texts.cert.data(), -1));
  const BioPtr key(BIO_new_mem_buf(texts.key.data(), -1));
  const CertificatePtr certificate(PEM_read_bio_X509(cert.get(), nullptr, nullptr, nullptr));
  const KeyPtr private_key(PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr));
  SSL_CTX_use_certificate(context.get(), certificate.get());
  SSL_CTX_use_PrivateKey(context.get(), private_key.get());
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    return "(no connection)";
  const ConnectionPtr connection(SSL_new(context.get()));
  SSL_set_fd(connection.get(), fd.get());
  constexpr unsigned char kProtocols[] = "\x02h2";
  SSL_set_alpn_protos(connection.get(), kProtocols, 3);
  ERR_clear_error();
  if (SSL_connect(connection.get()) == 1) return SSL_get_version(connection.get());
  const char* const reason = ERR_reason_error_string(ERR_get_error());
  return reason == nullptr ? "(closed)" : reason;
}

TEST(MinVersionTest, OnlyTls13IsSpokenOnceItIsDemanded) {
  const TestAuthority authority("authority");
  const PemTexts texts = authority.Texts();
  const TestStore store(texts);
  {
    const TlsServer before(store.store());
    EXPECT_EQ(Connect(before.port(), TLS1_3_VERSION, texts), "TLSv1.3");
    EXPECT_EQ(Connect(before.port(), TLS1_2_VERSION, texts), "TLSv1.2");
    EXPECT_THAT(Connect(before.port(), TLS1_1_VERSION, texts), Not(StartsWith("TLS")));
  }
  ASSERT_TRUE(SetMinVersion(MinVersion::kTls12).ok());
  {
    const TlsServer permissive(store.store());
    EXPECT_EQ(Connect(permissive.port(), TLS1_2_VERSION, texts), "TLSv1.2");
    EXPECT_THAT(Connect(permissive.port(), TLS1_1_VERSION, texts), Not(StartsWith("TLS")));
  }
  ASSERT_TRUE(SetMinVersion(MinVersion::kTls13).ok());
  const TlsServer after(store.store());
  EXPECT_EQ(Connect(after.port(), TLS1_3_VERSION, texts), "TLSv1.3");
  EXPECT_THAT(Connect(after.port(), TLS1_2_VERSION, texts), Not(StartsWith("TLS")));
  EXPECT_EQ(TlsCaller(after.address(), MakeChannelCredentials(texts)).Ask(),
            "spiffe://example.org/agent agent.example.org");
}

}  // namespace
}  // namespace tsc_handoff::tls
