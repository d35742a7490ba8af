// The part of tscctl's options that says how agents on other hosts are reached: by mutual TLS.
//
// Threading: functions without shared state. CheckTls reads files.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TLS_OPTIONS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TLS_OPTIONS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "server/tls/tls_files.h"

namespace CLI {
class App;
}

namespace tsc_handoff::tscctl {

struct TlsOptions {
  tls::TlsFiles files;  // empty: Unix sockets and loopback only
  // The DNS name that agents' certificates bear; empty: the host that is called.
  std::string server_name;
};

void AddTlsOptions(CLI::App* app, TlsOptions* options);

// Gives those of the options that the command line left open what TSC_TLS_CA, TSC_TLS_CERT,
// TSC_TLS_KEY and TSC_TLS_SERVER_NAME have for them. They count as given from then on. To be called
// after CLI::App::parse.
void ApplyTlsEnvironment(const std::map<std::string, std::string>& env, CLI::App& app);

// OK without files. INVALID_ARGUMENT: one of the three is missing. FAILED_PRECONDITION: a file
// cannot be used, and why.
absl::Status CheckTls(const TlsOptions& options);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TLS_OPTIONS_H_
