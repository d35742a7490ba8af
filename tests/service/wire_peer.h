// WirePeer: a VMM that speaks the protocol of client/vmm/tsc_wire.h by hand, so that it can do what
// the C library never does: register wrongly, hang, answer nonsense.
//
// Not thread-safe.
#ifndef TSC_HANDOFF_TESTS_SERVICE_WIRE_PEER_H_
#define TSC_HANDOFF_TESTS_SERVICE_WIRE_PEER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/vmm/tsc_wire.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff {

class WirePeer {
 public:
  using Bytes = std::vector<std::byte>;

  // Connects to an agent's socket for VMMs; fails the test if nobody listens.
  explicit WirePeer(const std::string& vmm_socket);
  // Speaks over a socket that is connected.
  explicit WirePeer(UniqueFd socket) : socket_(std::move(socket)) {}

  static tsc_wire_hello Hello(const std::string& vm_id, uint32_t vcpu_count);
  static tsc_wire_vcpus Vcpus(const std::vector<uint32_t>& ids);
  static tsc_wire_header Header(uint16_t type, uint64_t request_id = 0);

  // Sends one message with `fd_count` descriptors (of /dev/null).
  template <typename T>
  bool Send(const T& message, size_t fd_count = 0) {
    return SendBytes(&message, sizeof(message), std::vector<int>(fd_count, null_.get()));
  }
  bool SendBytes(const void* bytes, size_t size, const std::vector<int>& fds = {});

  // HELLO, VCPUS and the wait for WELCOME and the first PERMIT; the agent's text where it refused,
  // else empty. `flags` are tsc_wire_hello_flag.
  std::string Register(const std::string& vm_id, const std::vector<uint32_t>& ids,
                       uint32_t flags = 0);
  // What Register was told.
  const tsc_wire_permit& first_permit() const { return first_permit_; }
  // The next message; nullopt at the connection's end or after kPatience.
  std::optional<Bytes> Receive();
  // The text of a REFUSED that comes next, after which the connection ends; otherwise what came
  // instead.
  std::string AwaitRefusal();
  // Whether the connection ends, whatever comes before.
  bool AwaitEnd();

  // A right answer to a READ.
  static Bytes ReadDone(uint64_t request_id, const std::vector<uint32_t>& ids);

 private:
  UniqueFd socket_;
  UniqueFd null_ = OpenNull();
  tsc_wire_permit first_permit_ = {};

  static UniqueFd OpenNull();
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_WIRE_PEER_H_
