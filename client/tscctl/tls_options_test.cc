#include "client/tscctl/tls_options.h"

#include <gtest/gtest.h>

#include <variant>

#include "client/tscctl/options.h"
#include "server/tls/testing/test_authority.h"
#include "server/tls/testing/test_directory.h"

namespace tsc_handoff::tscctl {
namespace {

const std::map<std::string, std::string> kEnvironment = {{"TSC_TLS_CA", "env-ca"},
                                                         {"TSC_TLS_CERT", "env-cert"},
                                                         {"TSC_TLS_KEY", "env-key"},
                                                         {"TSC_TLS_SERVER_NAME", "env-name"}};

TlsOptions Parsed(const std::vector<std::string>& args) {
  const auto parsed = ParseOptions(args, kEnvironment);
  const auto* options = std::get_if<Options>(&parsed);
  EXPECT_NE(options, nullptr);
  return options == nullptr ? TlsOptions() : options->tls;
}

TEST(TlsOptionsTest, TheEnvironmentCountsWhereNoFlagIsGiven) {
  const TlsOptions from_environment = Parsed({"host"});
  EXPECT_EQ(from_environment.files, (tls::TlsFiles{"env-ca", "env-cert", "env-key"}));
  EXPECT_EQ(from_environment.server_name, "env-name");
  const TlsOptions mixed = Parsed(
      {"--tls-cert", "flag-cert", "host", "--tls-key", "flag-key", "--tls-server-name", "x"});
  EXPECT_EQ(mixed.files, (tls::TlsFiles{"env-ca", "flag-cert", "flag-key"}));
  EXPECT_EQ(mixed.server_name, "x");
}

TEST(TlsOptionsTest, FilesAreCheckedBeforeTheyAreUsed) {
  EXPECT_TRUE(CheckTls({}).ok());
  EXPECT_EQ(CheckTls({{"ca", "", ""}, ""}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckTls({{"/nowhere/1", "/nowhere/2", "/nowhere/3"}, ""}).code(),
            absl::StatusCode::kFailedPrecondition);
  const tls::TestAuthority authority("authority");
  const tls::TestDirectory directory;
  tls::CertificateWish wish;
  wish.extended_key_usage = "clientAuth";
  directory.Put(authority.Texts(wish));
  EXPECT_TRUE(CheckTls({directory.files(), ""}).ok());
  wish.not_after_s = tls::RealNowS() - 1;
  directory.Put(authority.Texts(wish));
  EXPECT_EQ(CheckTls({directory.files(), ""}).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
