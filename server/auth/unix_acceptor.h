// UnixAcceptor: the Unix sockets that callers connect to. Accepts their connections in gRPC's
// place, since gRPC does not say who is at the other end, and hands them to it under numbers that
// PeerTable knows.
//
// Limits how many connections a user may have, so that nobody takes all of the agent's descriptors.
//
// Threading: one thread of its own from Start to Stop. Find may be called from any thread; the
// others from one at a time.
#ifndef TSC_HANDOFF_SERVER_AUTH_UNIX_ACCEPTOR_H_
#define TSC_HANDOFF_SERVER_AUTH_UNIX_ACCEPTOR_H_

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "server/auth/identity.h"
#include "server/auth/peer_table.h"
#include "server/base/socket_lock.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::auth {

class UnixAcceptor {
 public:
  struct Options {
    size_t max_connections_per_user = 256;
    // OPTIONAL. A connection was closed at once; `why` is a sentence. Called from the thread.
    std::function<void(const Identity& who, const std::string& why)> on_refused = nullptr;
  };

  explicit UnixAcceptor(Options options) : options_(std::move(options)) {}
  ~UnixAcceptor();
  UnixAcceptor(const UnixAcceptor&) = delete;
  UnixAcceptor& operator=(const UnixAcceptor&) = delete;

  // Binds a socket with mode 0660; may be called several times before Start. Who connects from now
  // on waits until then. Errors (without a Reason): see SocketLock; bind and listen.
  absl::Status Listen(const std::string& path);

  // Accepts connections, and gives each to `serve`, which closes it.
  absl::Status Start(std::function<void(int fd)> serve);

  // Accepts no more. Connections that are served go on, and their numbers are known. Idempotent.
  void Stop();

  // Who has the connection of that number; null when it is none of this acceptor's.
  std::shared_ptr<const Identity> Find(int number) const { return peers_.Find(number); }

 private:
  // What shows the end of a connection: the descriptor that was accepted, which stays open.
  struct Watched {
    UniqueFd socket;
    int number = -1;
    uint32_t uid = 0;
  };

  void Serve();
  void AcceptAll(int listening);
  bool RefuseForWantOfDescriptors(int listening);
  void Admit(UniqueFd socket);
  void Ended(int fd);
  void Refuse(const Identity& who, const std::string& why);

  const Options options_;
  PeerTable peers_;
  std::function<void(int)> serve_;
  std::list<SocketLock> locks_;
  std::list<UniqueFd> listening_;
  UniqueFd epoll_;
  UniqueFd stop_;
  UniqueFd spare_;  // given up to refuse a connection when there are no descriptors left
  std::thread thread_;

  // Of the thread.
  std::map<int, Watched> watched_;
  std::map<uint32_t, size_t> connections_of_;
};

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_UNIX_ACCEPTOR_H_
