// The witness's session with the host's agent: client/vmm/tsc_vmm.h with Status.
//
// Threading: as tsc_vmm.h.
#ifndef TSC_HANDOFF_TESTS_WITNESS_SESSION_H_
#define TSC_HANDOFF_TESTS_WITNESS_SESSION_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "client/vmm/tsc_vmm.h"
#include "tests/witness/machine.h"
#include "tests/witness/options.h"

namespace tsc_handoff::witness {

class AgentSession {
 public:
  // `machine` outlives the session.
  static absl::StatusOr<std::unique_ptr<AgentSession>> Open(const Options& options,
                                                            const Machine& machine);
  ~AgentSession();
  AgentSession(const AgentSession&) = delete;
  AgentSession& operator=(const AgentSession&) = delete;

  absl::Status WaitRegistered(int timeout_ms);
  void Pause();
  // FAILED_PRECONDITION with the library's sentence when there is no leave to run.
  absl::Status Resume();
  // OK, or why the VM may not run here.
  absl::Status MayRun();

 private:
  explicit AgentSession(uint32_t die_at_write) : writes_left_(die_at_write) {}

  // What --die-at-write has instead of the kernel's own ioctl. `ctx` is the session.
  static int IoctlOrDie(void* ctx, int fd, unsigned long request, void* arg);

  std::atomic<uint32_t> writes_left_;
  tsc_kvm_ops ops_ = {};
  tsc_vmm* session_ = nullptr;
};

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_SESSION_H_
