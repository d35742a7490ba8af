#include "server/service/call_guard.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/service/rpc_status.h"

namespace tsc_handoff::service {
namespace {

int64_t MonotonicNs() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

absl::Status NotAuthorized(const auth::Identity& caller, const char* method, auth::Role needs,
                           const std::string& why) {
  return Error(
      Reason::kNotAuthorized,
      absl::StrCat(NameOf(caller), " (", OriginOf(caller), ") may not call ", method, ": ", why),
      {{"caller", NameOf(caller)}, {"role", auth::NameOf(needs)}});
}

absl::Status TooOften(const auth::Identity& caller, uint32_t per_second, int64_t wait_ns) {
  const int64_t wait_ms = wait_ns / 1'000'000 + 1;
  return Error(Reason::kLimitExceeded,
               absl::StrCat(NameOf(caller), " sends more than ", per_second,
                            " requests a second; the next may come in ", wait_ms, " ms"),
               {{"limit", "requests per second"}, {"retry_after_ms", absl::StrCat(wait_ms)}});
}

}  // namespace

void CallGuard::SetPolicy(std::shared_ptr<const auth::Policy> policy) {
  const std::lock_guard<std::mutex> lock(mutex_);
  policy_.swap(policy);
}

std::shared_ptr<const auth::Policy> CallGuard::policy() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return policy_;
}

Admission CallGuard::Admit(const grpc::ServerContextBase& context, const char* method,
                           const std::string& vm_id) const {
  return Admit(CallerOf(context, parts_.find_peer), method, vm_id);
}

Admission CallGuard::Admit(std::shared_ptr<const auth::Identity> who, const char* method,
                           const std::string& vm_id) const {
  Admission admission;
  admission.caller = std::move(who);
  admission.rule = auth::FindRule(parts_.grpc_service, method);
  const auth::Identity& caller = *admission.caller;
  // A method without a rule is for nobody.
  const auth::Role needs = admission.rule == nullptr
                               ? auth::Role::kAdmin
                               : admission.rule->needs.value_or(auth::Role::kPeer);
  const auto policy_now = policy();
  const auth::Verdict verdict = auth::Decide(*policy_now, caller, needs);
  admission.vms = verdict.vms;
  admission.denied = true;
  if (const int64_t wait_ns = parts_.limiter.Take(NameOf(caller), MonotonicNs()); wait_ns > 0) {
    admission.denied = false;
    admission.status = TooOften(caller, parts_.limiter.per_second(), wait_ns);
    parts_.metrics.RateLimited();
  } else if (admission.rule == nullptr) {
    admission.status = NotAuthorized(caller, method, needs, "no role permits it");
  } else if (!verdict.permitted) {
    admission.status = NotAuthorized(
        caller, method, needs,
        absl::StrCat("it takes the role ", auth::NameOf(needs), ", and this caller has ",
                     auth::RolesInWords(*policy_now, caller)));
  } else if (!vm_id.empty() && !verdict.vms.Holds(vm_id)) {
    admission.status = NotAuthorized(caller, method, needs,
                                     absl::StrCat("this caller has the role ", auth::NameOf(needs),
                                                  " for other VM ids than ", vm_id));
  } else {
    admission.denied = false;
  }
  if (admission.denied) parts_.metrics.AuthorizationDenied(method);
  return admission;
}

auth::Verdict CallGuard::MayStill(const Admission& admission) const {
  if (admission.rule == nullptr || !admission.rule->needs.has_value()) return {};
  return auth::Decide(*policy(), *admission.caller, *admission.rule->needs);
}

bool CallGuard::WantsNote(const Admission& admission) const {
  return admission.rule != nullptr && admission.rule->changes &&
         parts_.audit.Wants(/*refused_at_the_door=*/false);
}

void CallGuard::Ended(const Admission& admission, const char* method, const CallNote& note,
                      const absl::Status& status, absl::Duration took) const {
  const bool changes = admission.rule != nullptr && admission.rule->changes;
  const bool refused = !admission.status.ok();
  if ((!changes && !admission.denied) || !parts_.audit.Wants(refused)) return;
  auth::AuditEvent event;
  event.who = *admission.caller;
  event.method = method;
  event.vm_id = note.vm_id;
  event.handoff_id = note.handoff_id;
  event.epoch = note.epoch;
  event.state_sha256 = note.state_sha256;
  event.reason = ReasonLabel(status);
  event.why = std::string(status.message());
  event.took = took;
  // Who is refused at the door can knock as often as he likes.
  parts_.audit.Write(event, refused);
}

}  // namespace tsc_handoff::service
