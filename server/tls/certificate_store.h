// CertificateStore: the certificates in use. What lies in the files comes into use only after it
// was checked, as a whole; else what was in use stays.
//
// Threading: thread-safe. Load and Reload read files.
#ifndef TSC_HANDOFF_SERVER_TLS_CERTIFICATE_STORE_H_
#define TSC_HANDOFF_SERVER_TLS_CERTIFICATE_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "server/tls/certificate_check.h"
#include "server/tls/tls_files.h"

namespace tsc_handoff::tls {

class CertificateStore {
 public:
  // What a Reload came to, unless nothing had changed.
  struct Reloaded {
    Problem problem = Problem::kNone;             // kNone: new ones are in use
    std::string why;                              // of a problem
    std::shared_ptr<const Certificates> current;  // in use from now on
  };

  // `now_s`: seconds since the epoch. `on_reload` is called by Reload, in its thread, under a lock.
  CertificateStore(TlsFiles files, std::function<int64_t()> now_s,
                   std::function<void(const Reloaded&)> on_reload);

  // Once, before all else. FAILED_PRECONDITION: what is wrong with the files.
  absl::Status Load();

  // Looks at the files again. Says nothing of files that are those in use, and says of a fault that
  // stays the same only once. Returns whether new ones are in use.
  bool Reload();

  // Never null after Load. Another pointer means other certificates.
  std::shared_ptr<const Certificates> current() const;

  const TlsFiles& files() const { return files_; }

 private:
  Verdict Check() const;

  const TlsFiles files_;
  const std::function<int64_t()> now_s_;
  const std::function<void(const Reloaded&)> on_reload_;
  std::mutex reload_mutex_;  // one Reload at a time
  std::string last_fault_;   // guarded by reload_mutex_
  mutable std::mutex mutex_;
  std::shared_ptr<const Certificates> current_;  // guarded by mutex_
};

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_CERTIFICATE_STORE_H_
