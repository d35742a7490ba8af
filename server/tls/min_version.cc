#include "server/tls/min_version.h"

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/tls/openssl_types.h"

namespace tsc_handoff::tls {
namespace {

// gRPC sets MinProtocol itself, to 1.2; what Protocol takes away stays away. The security level is
// Debian's own.
constexpr absl::string_view kConfiguration =
    "openssl_conf = main\n"
    "[main]\n"
    "ssl_conf = ssl\n"
    "[ssl]\n"
    "system_default = every_context\n"
    "[every_context]\n"
    "CipherString = DEFAULT@SECLEVEL=2\n"
    "Options = -SessionTicket\n"
    "NumTickets = 0\n"
    "Protocol = -ALL, TLSv1.3";

using ConfPtr = std::unique_ptr<CONF, Freed<NCONF_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;

}  // namespace

absl::Status SetMinVersion(MinVersion version) {
  // First the file of the system, which would otherwise be read later and replace this. OpenSSL
  // does not clean up at the process's exit: a thread of gRPC's may still be freeing a connection
  // then, of which certificates would be left.
  OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, nullptr);
  const bool with_1_2 = version == MinVersion::kTls12;
  const std::string configuration = absl::StrCat(kConfiguration, with_1_2 ? ", TLSv1.2" : "", "\n");
  const BioPtr text(BIO_new_mem_buf(configuration.data(), static_cast<int>(configuration.size())));
  const ConfPtr conf(NCONF_new(nullptr));
  long line = 0;
  const bool loaded = NCONF_load_bio(conf.get(), text.get(), &line) == 1 &&
                      CONF_modules_load(conf.get(), nullptr, 0) == 1;
  ERR_clear_error();
  const ContextPtr context(SSL_CTX_new(TLS_method()));
  ERR_clear_error();
  const uint64_t older = SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | (with_1_2 ? 0 : SSL_OP_NO_TLSv1_2);
  if (!loaded || context == nullptr || (SSL_CTX_get_options(context.get()) & older) != older ||
      SSL_CTX_get_num_tickets(context.get()) != 0)
    return absl::FailedPreconditionError("OpenSSL does not take the minimum version of TLS");
  return absl::OkStatus();
}

}  // namespace tsc_handoff::tls
