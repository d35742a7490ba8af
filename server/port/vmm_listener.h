// VmmListener: the Unix socket at which VMMs register. Accepts connections, takes descriptors in,
// checks them, puts the VM into the registry, and takes it out when its connection ends.
//
// Threading: one thread of its own from Start to Stop. Start, Adopt and Stop may be called from any
// thread. It never waits for a single VMM: a registration is assembled message by message and
// dropped after kHandshakeTimeout.
#ifndef TSC_HANDOFF_SERVER_PORT_VMM_LISTENER_H_
#define TSC_HANDOFF_SERVER_PORT_VMM_LISTENER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/base/peer_credentials.h"
#include "server/base/socket_lock.h"
#include "server/base/unique_fd.h"
#include "server/port/descriptor_check.h"
#include "server/registry/vm_registry.h"

namespace tsc_handoff::port {

class VmmListener {
 public:
  struct Options {
    std::string socket_path;     // empty: no socket, Adopt only
    size_t max_handshakes = 64;  // connections that have not registered yet
    // Told of each event in a sentence; called from the listener's thread.
    std::function<void(const std::string& vm_id, int32_t pid, const std::string& what)> on_event =
        nullptr;
    // Whether this process may register a VM of that id; a sentence that says why not, otherwise.
    // Called from the listener's thread; must be quick. Not called for VMMs of this process. Empty:
    // whoever can connect may.
    std::function<absl::Status(const PeerCredentials& peer, const std::string& vm_id)>
        may_register = nullptr;
    // Sends the VM its first permit, without which it does not run. Called from the listener's
    // thread when the registry has the VM; must be quick. Empty: the listener grants it itself,
    // unless the VM awaits a handoff.
    std::function<void(const std::shared_ptr<registry::RegisteredVm>&)> on_registered = nullptr;
  };

  static constexpr std::chrono::seconds kHandshakeTimeout{5};

  // `registry` and `check` outlive this.
  VmmListener(Options options, registry::VmRegistry& registry, DescriptorCheck& check);
  ~VmmListener();
  VmmListener(const VmmListener&) = delete;
  VmmListener& operator=(const VmmListener&) = delete;

  // Binds the socket with mode 0660 and starts to serve. Errors (without a Reason): see SocketLock;
  // bind and listen.
  absl::Status Start();

  // Serves a connected SOCK_SEQPACKET socket as if it had been accepted: a VMM in this process.
  // REQUIRES: Start was OK.
  void Adopt(UniqueFd socket);

  // Ends all connections, forgets their VMs and joins the thread. Idempotent.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;

  // A connection before and after its registration.
  struct Connection {
    UniqueFd socket;  // until the port takes it over
    registry::PortKind kind = registry::PortKind::kCooperative;
    PeerCredentials peer;  // of this process, unless it is cooperative
    Clock::time_point deadline;
    std::string vm_id;
    uint32_t vcpu_count = 0;
    uint32_t flags = 0;  // tsc_wire_hello_flag
    std::string instance;
    UniqueFd vm;
    std::vector<uint32_t> ids;
    std::vector<UniqueFd> vcpus;
    std::shared_ptr<registry::RegisteredVm> registered;
  };

  absl::Status Bind();
  void Serve();
  void TakeAdopted();
  void AcceptAll();
  bool RefuseForWantOfDescriptors();
  void AddConnection(UniqueFd socket, registry::PortKind kind);
  void OnReadable(int fd);
  void DropExpired();
  void Drop(int fd, const std::string& why);
  // Takes one message in. Not OK: the connection is to be refused with that sentence.
  absl::Status OnMessage(Connection& connection);
  absl::Status OnHello(Connection& connection, const void* message, size_t size,
                       std::vector<UniqueFd> fds);
  absl::Status OnVcpus(Connection& connection, const void* message, size_t size,
                       std::vector<UniqueFd> fds);
  absl::Status CheckMayRegister(const Connection& connection, const std::string& vm_id) const;
  absl::Status Register(Connection& connection);
  void GiveFirstPermit(const std::shared_ptr<registry::RegisteredVm>& vm);
  int NextTimeoutMs() const;

  const Options options_;
  registry::VmRegistry& registry_;
  DescriptorCheck& check_;

  std::optional<SocketLock> lock_;
  UniqueFd listening_;
  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd spare_;  // given up to tell a VMM that there are no descriptors left
  std::thread thread_;

  // Of the listener's thread.
  std::map<int, Connection> connections_;
  size_t handshakes_ = 0;

  std::mutex mutex_;
  std::vector<UniqueFd> adopted_;  // guarded by mutex_
  bool stopping_ = false;          // guarded by mutex_
};

}  // namespace tsc_handoff::port

#endif  // TSC_HANDOFF_SERVER_PORT_VMM_LISTENER_H_
