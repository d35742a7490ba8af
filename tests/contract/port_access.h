// The way through the agent's cooperative port: a tsc_vmm session in this process serves the VM
// over a socket pair, and a CooperativePort talks to it.
//
// Threading: see access.h; the port's SendPermit and the session's functions from any thread.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_PORT_ACCESS_H_
#define TSC_HANDOFF_TESTS_CONTRACT_PORT_ACCESS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/vmm/tsc_vmm.h"
#include "client/vmm/tsc_wire.h"
#include "server/port/cooperative_port.h"
#include "server/port/vm_port.h"
#include "tests/contract/access.h"

namespace tsc_handoff::contract {

struct VmmOptions {
  bool awaits_handoff = false;
  bool first_permit = true;  // granted at once, and waited for
};

// A VMM's session with both its ends.
class VmmSession final : public Access {
 public:
  // The VM's descriptors must be real ones.
  static absl::StatusOr<std::unique_ptr<VmmSession>> Open(ContractVm& vm,
                                                          const VmmOptions& options);
  ~VmmSession() override;

  CaptureResult Capture() override { return Capture(port::Hold::kNo); }
  ApplyResult Apply(const tsc_kvm_target& target,
                    const std::vector<tsc_vcpu_state>& wanted) override {
    return Apply(target, wanted, port::Hold::kNo);
  }
  CaptureResult Capture(port::Hold hold);
  ApplyResult Apply(const tsc_kvm_target& target, const std::vector<tsc_vcpu_state>& wanted,
                    port::Hold hold);

  tsc_vmm* vmm() const { return session_; }
  // What it said when it registered.
  const tsc_wire_hello& hello() const { return hello_; }
  void Grant() { port_->SendPermit({.granted = true, .epoch = 7, .reason = ""}); }
  void Deny(const std::string& reason) {
    port_->SendPermit({.granted = false, .epoch = 7, .reason = reason});
  }
  // Ends the connection, as the agent's death does.
  void EndConnection() { port_.reset(); }

 private:
  VmmSession() = default;

  tsc_vmm* session_ = nullptr;
  tsc_wire_hello hello_ = {};
  std::unique_ptr<port::CooperativePort> port_;
};

// A VmmSession with its permit.
absl::StatusOr<std::unique_ptr<Access>> CooperativeAccess(ContractVm& vm);

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_PORT_ACCESS_H_
