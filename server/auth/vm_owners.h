// VmOwners: which user's VM an id is, so that no other user's VMM takes it over: since its
// registration, for as long as the agent runs. Who had a VM that is in a handoff, the journal
// knows, over restarts, too.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_AUTH_VM_OWNERS_H_
#define TSC_HANDOFF_SERVER_AUTH_VM_OWNERS_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/auth/identity.h"
#include "server/auth/policy.h"

namespace tsc_handoff::auth {

// Whether an id is in use: its VM is registered, can be attached to, or is in a handoff that has
// not ended; and by which user, where that is known by other means than its registration.
struct VmInUse {
  bool is = false;
  std::optional<uint32_t> uid = std::nullopt;
};

class VmOwners {
 public:
  // Ids that are remembered. Of more, new ones are refused to all but root: to forget one would
  // give it away.
  static constexpr size_t kMaxVms = 100'000;

  // Whether `who` may register a VM of that id; root may register any. A sentence that says who
  // else has it, if not. `policy` decides first, where it says who may register VMs: it then also
  // gives an id that another user had, once nobody uses it.
  absl::Status MayRegister(const Policy& policy, const Identity& who, const std::string& vm_id,
                           const VmInUse& in_use) const;

  // The id is of `uid` from now on; root takes none away.
  void Registered(const std::string& vm_id, uint32_t uid);

  std::optional<uint32_t> OwnerOf(const std::string& vm_id) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, uint32_t> owners_;  // guarded by mutex_
};

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_VM_OWNERS_H_
