// CooperativePort: reaches a VM whose VMM links the C library, over that VMM's connection
// (client/vmm/tsc_wire.h). One packet down, one up.
//
// The VMM is not trusted: every answer is checked for its length, its counts and its vCPU ids; a
// wrong one ends the connection.
#ifndef TSC_HANDOFF_SERVER_PORT_COOPERATIVE_PORT_H_
#define TSC_HANDOFF_SERVER_PORT_COOPERATIVE_PORT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::port {

class CooperativePort final : public VmPort {
 public:
  // `socket` is a connected SOCK_SEQPACKET socket whose VMM has been welcomed; `vcpu_ids` ascend.
  CooperativePort(std::string vm_id, std::vector<uint32_t> vcpu_ids, UniqueFd socket);

  absl::StatusOr<Capture> ReadAll(Hold hold) override;
  absl::StatusOr<Applied> WriteAll(const ApplyOrder& order, Hold hold) override;
  absl::StatusOr<bool> IsPaused() override;
  // One packet, which the kernel keeps whole and in its place among those of a call in progress.
  void SendPermit(const Permit& permit) override;

  // For whoever watches the connection's end. Stays open as long as this object.
  int socket() const { return socket_.get(); }

 private:
  // Sends `request` and waits for the answer of type `type` to it. The answer's length is at least
  // `min_size`.
  absl::StatusOr<std::vector<std::byte>> Call(std::vector<std::byte> request, uint16_t type,
                                              size_t min_size, absl::Duration timeout);
  absl::StatusOr<std::vector<std::byte>> AwaitAnswer(uint16_t type, size_t min_size,
                                                     absl::Duration timeout);
  // Never blocks. False with errno when the VMM has gone or its socket is full.
  bool Send(const void* bytes, size_t size) const;
  // Copies `count` states from `bytes`; their ids must be the VM's.
  absl::StatusOr<std::vector<tsc_vcpu_state>> States(const std::byte* bytes);
  absl::Status BrokenProtocol(const std::string& what);

  const std::string vm_id_;
  const std::vector<uint32_t> vcpu_ids_;
  const UniqueFd socket_;
  uint64_t next_request_id_ = 1;
};

}  // namespace tsc_handoff::port

#endif  // TSC_HANDOFF_SERVER_PORT_COOPERATIVE_PORT_H_
