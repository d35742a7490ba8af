// CallGuard: what every call of the agent's API goes through before anything is done for it: who
// calls, whether he sends too much, whether he may; and, when it is over, the audit.
//
// Threading: thread-safe. Admit answers at once; Ended waits for a write to the audit's file.
#ifndef TSC_HANDOFF_SERVER_SERVICE_CALL_GUARD_H_
#define TSC_HANDOFF_SERVER_SERVICE_CALL_GUARD_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/auth/audit.h"
#include "server/auth/identity.h"
#include "server/auth/policy.h"
#include "server/auth/rate_limiter.h"
#include "server/auth/roles.h"
#include "server/metrics/metrics.h"
#include "server/service/call_note.h"
#include "server/service/caller.h"

namespace tsc_handoff::service {

// What was found of a call that came in.
struct Admission {
  std::shared_ptr<const auth::Identity> caller;
  const auth::MethodRule* rule = nullptr;  // null: there is none, and the call is refused
  absl::Status status;                     // not OK: it is refused
  auth::VmScope vms;                       // what the caller may see and touch by this call
  bool denied = false;                     // refused because he may not
};

class CallGuard {
 public:
  // All outlive this.
  struct Parts {
    std::string grpc_service;  // whose calls these are
    FindPeer find_peer;
    auth::Audit& audit;
    auth::RateLimiter& limiter;
    metrics::Metrics& metrics;
  };

  CallGuard(Parts parts, std::shared_ptr<const auth::Policy> policy)
      : parts_(std::move(parts)), policy_(std::move(policy)) {}

  // For calls that come in afterwards, and for what streams show.
  void SetPolicy(std::shared_ptr<const auth::Policy> policy);
  std::shared_ptr<const auth::Policy> policy() const;

  // `vm_id`: of the VM that the request names; empty where it names none. Errors: NOT_AUTHORIZED,
  // whether there is such a VM or not; LIMIT_EXCEEDED.
  Admission Admit(const grpc::ServerContextBase& context, const char* method,
                  const std::string& vm_id) const;

  // The same of a caller who is known.
  Admission Admit(std::shared_ptr<const auth::Identity> caller, const char* method,
                  const std::string& vm_id) const;

  // Whether the audit will want to know what this call was about.
  bool WantsNote(const Admission& admission) const;

  // The same for a stream that goes on: what its caller may see now.
  auth::Verdict MayStill(const Admission& admission) const;

  // To be called once for each call, before its answer is sent.
  void Ended(const Admission& admission, const char* method, const CallNote& note,
             const absl::Status& status, absl::Duration took) const;

 private:
  const Parts parts_;
  mutable std::mutex mutex_;
  std::shared_ptr<const auth::Policy> policy_;  // guarded by mutex_
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_CALL_GUARD_H_
