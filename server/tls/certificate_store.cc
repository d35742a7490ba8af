#include "server/tls/certificate_store.h"

#include <utility>

namespace tsc_handoff::tls {

CertificateStore::CertificateStore(TlsFiles files, std::function<int64_t()> now_s,
                                   std::function<void(const Reloaded&)> on_reload)
    : files_(std::move(files)), now_s_(std::move(now_s)), on_reload_(std::move(on_reload)) {}

Verdict CertificateStore::Check() const {
  auto pem = ReadTlsFiles(files_);
  if (pem.ok()) return CheckCertificates(*pem, files_, Use::kAgent, now_s_());
  Verdict verdict;
  verdict.problem = Problem::kUnreadable;
  verdict.why = std::string(pem.status().message());
  return verdict;
}

absl::Status CertificateStore::Load() {
  Verdict verdict = Check();
  if (!verdict.ok()) return absl::FailedPreconditionError(verdict.why);
  const std::lock_guard<std::mutex> lock(mutex_);
  current_ = std::make_shared<const Certificates>(std::move(verdict.certificates));
  return absl::OkStatus();
}

bool CertificateStore::Reload() {
  const std::lock_guard<std::mutex> reload_lock(reload_mutex_);
  const std::shared_ptr<const Certificates> before = current();
  // Unchanged files are not judged again: those in use stay in use, also when they expire.
  const auto pem = ReadTlsFiles(files_);
  if (pem.ok() && *pem == before->pem) {
    last_fault_.clear();
    return false;
  }
  Verdict verdict = Check();
  if (!verdict.ok()) {
    if (verdict.why == last_fault_) return false;
    last_fault_ = verdict.why;
    on_reload_({verdict.problem, verdict.why, before});
    return false;
  }
  last_fault_.clear();
  auto now = std::make_shared<const Certificates>(std::move(verdict.certificates));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_ = now;
  }
  on_reload_({Problem::kNone, "", std::move(now)});
  return true;
}

std::shared_ptr<const Certificates> CertificateStore::current() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return current_;
}

}  // namespace tsc_handoff::tls
