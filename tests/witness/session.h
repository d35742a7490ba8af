// The witness's session with the host's agent: client/vmm/tsc_vmm.h with Status.
//
// Threading: as tsc_vmm.h.
#ifndef TSC_HANDOFF_TESTS_WITNESS_SESSION_H_
#define TSC_HANDOFF_TESTS_WITNESS_SESSION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/vmm/tsc_vmm.h"
#include "tests/witness/machine.h"

namespace tsc_handoff::witness {

class AgentSession {
 public:
  // `machine` outlives the session.
  static absl::StatusOr<std::unique_ptr<AgentSession>> Open(const std::string& agent_socket,
                                                            const std::string& vm_id,
                                                            const Machine& machine);
  ~AgentSession();
  AgentSession(const AgentSession&) = delete;
  AgentSession& operator=(const AgentSession&) = delete;

  absl::Status WaitRegistered(int timeout_ms);
  void Pause();
  absl::Status Resume();

 private:
  explicit AgentSession(tsc_vmm* session) : session_(session) {}

  tsc_vmm* const session_;
};

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_SESSION_H_
