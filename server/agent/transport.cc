#include "server/agent/transport.h"

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "server/base/error.h"
#include "server/base/log.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/loopback.h"
#include "server/tls/min_version.h"
#include "server/tls/server_credentials.h"

namespace tsc_handoff::agent {
namespace {

constexpr char kGiveCertificates[] = "give --tls-cert, --tls-key and --tls-ca";

int64_t NowS() { return static_cast<int64_t>(std::time(nullptr)); }

void LogInUse(const tls::Certificates& certificates) {
  std::vector<std::string> names = certificates.uris;
  names.insert(names.end(), certificates.dns.begin(), certificates.dns.end());
  Log(LogLevel::kInfo, "certificate in use",
      {{"subject", certificates.subject},
       {"names", absl::StrJoin(names, " ")},
       {"until",
        absl::FormatTime(absl::RFC3339_sec, absl::FromUnixSeconds(certificates.not_after_s),
                         absl::UTCTimeZone())}});
}

}  // namespace

Transport::Transport(TransportOptions options, metrics::Metrics& metrics)
    : options_(std::move(options)), metrics_(metrics) {}

absl::Status Transport::Start() {
  if (options_.tls.empty()) return absl::OkStatus();
  const auto version = options_.permit_tls_1_2 ? tls::MinVersion::kTls12 : tls::MinVersion::kTls13;
  if (absl::Status status = tls::SetMinVersion(version); !status.ok()) return status;
  store_.emplace(options_.tls, NowS,
                 [this](const tls::CertificateStore::Reloaded& what) { Reloaded(what); });
  if (absl::Status status = store_->Load(); !status.ok()) return status;
  LogInUse(*store_->current());
  watch_.emplace(std::vector<std::string>{options_.tls.ca, options_.tls.cert, options_.tls.key},
                 [this] { store_->Reload(); });
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Transport::ServerCredentialsFor(
    const std::string& address) {
  if (tls::IsUnixSocket(address)) return grpc::InsecureServerCredentials();
  if (store_.has_value()) {
    server_credentials_.push_back(tls::MakeServerCredentials(*store_));
    return server_credentials_.back();
  }
  if (!tls::IsLoopback(address)) {
    return absl::PermissionDeniedError(absl::StrCat(
        address, " is reachable from other hosts, which takes mutual TLS: ", kGiveCertificates,
        ", or listen on a Unix socket"));
  }
  if (!options_.insecure_tcp) {
    return absl::PermissionDeniedError(absl::StrCat(
        address, " is TCP, which takes mutual TLS: ", kGiveCertificates,
        ", or let every process of this host call with --insecure-tcp, or listen on a Unix "
        "socket"));
  }
  return grpc::InsecureServerCredentials();
}

absl::StatusOr<peer::PeerSecurity> Transport::PeerSecurityFor(const std::string& address) {
  if (!store_.has_value()) {
    if (tls::IsLoopback(address)) return peer::PeerSecurity{insecure_credentials_, ""};
    return Error(Reason::kPeerUnreachable,
                 absl::StrCat("the agent at ", address,
                              " is on another host, which takes mutual TLS, and this agent has no "
                              "certificate: start it with --tls-cert, --tls-key and --tls-ca"),
                 {{"peer", address}});
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<const tls::Certificates> now = store_->current();
  if (channel_certificates_ != now) {
    channel_credentials_ = tls::MakeChannelCredentials(now->pem);
    channel_certificates_ = std::move(now);
  }
  return peer::PeerSecurity{channel_credentials_, options_.peer_name};
}

bool Transport::Reload() { return store_.has_value() && store_->Reload(); }

std::optional<metrics::CertificateValues> Transport::certificate() const {
  if (!store_.has_value()) return std::nullopt;
  const std::shared_ptr<const tls::Certificates> now = store_->current();
  if (now == nullptr) return std::nullopt;
  return metrics::CertificateValues{now->not_before_s, now->not_after_s};
}

void Transport::Reloaded(const tls::CertificateStore::Reloaded& what) {
  metrics_.CertificateReloaded(tls::NameOf(what.problem));
  if (what.problem == tls::Problem::kNone) return LogInUse(*what.current);
  Log(LogLevel::kError, "the certificate in the files is refused; the one in use stays",
      {{"problem", tls::NameOf(what.problem)}, {"why", what.why}});
}

}  // namespace tsc_handoff::agent
