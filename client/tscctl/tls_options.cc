#include "client/tscctl/tls_options.h"

#include <CLI/CLI.hpp>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "server/tls/certificate_check.h"

namespace tsc_handoff::tscctl {

void AddTlsOptions(CLI::App* app, TlsOptions* options) {
  const auto add = [app](const char* name, std::string* value, const char* help, const char* type) {
    app->add_option(name, *value, help)->type_name(type);
  };
  add("--tls-ca", &options->files.ca, "The authorities that vouch for agents on other hosts",
      "FILE");
  add("--tls-cert", &options->files.cert, "Your certificate, which agents on other hosts ask for",
      "FILE");
  add("--tls-key", &options->files.key, "The private key of --tls-cert", "FILE");
  add("--tls-server-name", &options->server_name,
      "The DNS name in the agents' certificates (default: the host of ADDRESS)", "NAME");
}

void ApplyTlsEnvironment(const std::map<std::string, std::string>& env, CLI::App& app) {
  const std::map<std::string, std::string> flags = {{"TSC_TLS_CA", "--tls-ca"},
                                                    {"TSC_TLS_CERT", "--tls-cert"},
                                                    {"TSC_TLS_KEY", "--tls-key"},
                                                    {"TSC_TLS_SERVER_NAME", "--tls-server-name"}};
  for (const auto& [name, flag] : flags) {
    const auto set = env.find(name);
    CLI::Option* const option = app.get_option(flag);
    if (set == env.end() || set->second.empty() || option->count() > 0) continue;
    option->add_result(set->second);
    option->run_callback();
  }
}

absl::Status CheckTls(const TlsOptions& options) {
  if (absl::Status status = tls::CheckComplete(options.files); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(status.message(), " (or TSC_TLS_CERT, TSC_TLS_KEY, TSC_TLS_CA)"));
  }
  if (options.files.empty()) return absl::OkStatus();
  const auto pem = tls::ReadTlsFiles(options.files);
  if (!pem.ok()) return absl::FailedPreconditionError(pem.status().message());
  const tls::Verdict verdict = tls::CheckCertificates(*pem, options.files, tls::Use::kClient,
                                                      static_cast<int64_t>(std::time(nullptr)));
  return verdict.ok() ? absl::OkStatus() : absl::FailedPreconditionError(verdict.why);
}

}  // namespace tsc_handoff::tscctl
