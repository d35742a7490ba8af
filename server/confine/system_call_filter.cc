#include "server/confine/system_call_filter.h"

#include <seccomp.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/confine/system_calls.h"

namespace tsc_handoff::confine {
namespace {

// Binary search over the calls' numbers; the kernel would otherwise compare with one after another
// at every call.
constexpr uint32_t kSearchTree = 2;

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};

absl::Status Failure(const char* what, int error) {
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot confine the agent's system calls: ", what, ": ", std::strerror(-error),
      ". Use a kernel with CONFIG_SECCOMP_FILTER and let the agent call seccomp(2), or "
      "start it with --seccomp off"));
}

// One filter for all threads, beside those that they have. The kernel asks all of them, and the
// strictest answer counts.
absl::Status Load(uint32_t otherwise, bool log, const std::vector<Rule>& rules) {
  const std::unique_ptr<void, Release> context(seccomp_init(otherwise));
  if (context == nullptr) return Failure("seccomp_init", -ENOMEM);
  // What is made for another kind of CPU is killed.
  for (const auto& [attribute, value] : {std::pair(SCMP_FLTATR_CTL_TSYNC, uint32_t{1}),
                                         {SCMP_FLTATR_CTL_LOG, uint32_t{log}},
                                         {SCMP_FLTATR_CTL_OPTIMIZE, kSearchTree},
                                         {SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS}}) {
    if (const int error = seccomp_attr_set(context.get(), attribute, value); error != 0)
      return Failure("seccomp_attr_set", error);
  }
  for (const Rule& rule : rules) {
    const int error =
        seccomp_rule_add_array(context.get(), rule.action, rule.call,
                               static_cast<unsigned>(rule.when.size()), rule.when.data());
    if (error != 0) return Failure("seccomp_rule_add", error);
  }
  const int error = seccomp_load(context.get());
  return error == 0 ? absl::OkStatus() : Failure("seccomp_load", error);
}

}  // namespace

absl::Status Confine(const SystemCallFilter& filter) {
  // By itself, because the kernel logs all that a filter refuses or nothing of it, and this comes
  // with every thread. It goes first: the other one does not let another filter be loaded.
  absl::Status status = Load(SCMP_ACT_ALLOW, /*log=*/false, Declined());
  if (!status.ok()) return status;
  const uint32_t otherwise = filter.forbidden == Forbidden::kKills
                                 ? SCMP_ACT_KILL_PROCESS
                                 : static_cast<uint32_t>(SCMP_ACT_ERRNO(EPERM));
  return Load(otherwise, /*log=*/true, Allowed(getpid(), filter.attach));
}

}  // namespace tsc_handoff::confine
