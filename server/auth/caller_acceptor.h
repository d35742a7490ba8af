// CallerAcceptor: the sockets that callers connect to, Unix and TCP. Accepts their connections in
// gRPC's place and hands them to it, since gRPC
//
// - does not say who is at the other end of a Unix socket, which here a number says that PeerTable
//   knows;
// - has no limit on connections, and stops to listen for good when there are no descriptors left;
// - waits for ever for the first byte of a connection that it was given.
//
// So connections are limited, in all and for each peer, and who does not begin to speak HTTP/2 in
// time never reaches gRPC. Where TLS comes first, gRPC's own limit on the handshake's time holds.
//
// Threading: one thread of its own from Start to Stop. Find may be called from any thread; the
// others from one at a time.
#ifndef TSC_HANDOFF_SERVER_AUTH_CALLER_ACCEPTOR_H_
#define TSC_HANDOFF_SERVER_AUTH_CALLER_ACCEPTOR_H_

#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/auth/connection_counts.h"
#include "server/auth/identity.h"
#include "server/auth/peer_table.h"
#include "server/base/socket_lock.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::auth {

// Why a connection was closed.
enum class RefusedFor {
  kPeerLimit,    // its peer has too many
  kLimit,        // there are too many in all
  kDescriptors,  // the agent is out of descriptors
  kSilence,      // it did not begin to speak HTTP/2 in time
  kNotHttp2,     // it spoke something else
  kFlood,        // Close was called
};
// "peer_limit", ...
const char* NameOf(RefusedFor what);
std::vector<std::string> RefusedForNames();

class CallerAcceptor {
 public:
  using Clock = std::chrono::steady_clock;
  // Takes a connection's descriptor over.
  using Serve = std::function<void(int fd)>;

  struct Options {
    // By TCP in all, and by Unix sockets in all, so that nobody on the network keeps this host's
    // own callers out. Fewer, where the process's limit of descriptors is low: see max_in_all.
    size_t max_connections = 4096;
    // Of a user by Unix sockets; of an address by TCP (see TcpPeer).
    size_t max_connections_per_peer = 64;
    Clock::duration preface_timeout = std::chrono::seconds(10);
    // OPTIONAL. A connection was closed; `why` is a sentence. Called from the thread.
    std::function<void(const Identity& who, RefusedFor what, const std::string& why)> on_refused =
        nullptr;
    // OPTIONAL. Far fewer connections are left than there were: a time to give memory back. Called
    // from the thread, a second later.
    std::function<void()> on_calm = nullptr;
  };

  explicit CallerAcceptor(Options options);
  ~CallerAcceptor();
  CallerAcceptor(const CallerAcceptor&) = delete;
  CallerAcceptor& operator=(const CallerAcceptor&) = delete;

  // Both may be called several times before Start; who connects from then on waits until it.
  // `serve` gets connections that have begun to speak HTTP/2; Find knows their numbers. Errors: see
  // ListenAtPath.
  absl::Status ListenUnix(const std::string& path, Serve serve);
  // Of `tls`, `serve` gets connections as they come. Returns the port. Errors: see ListenAtTcp.
  absl::StatusOr<int> ListenTcp(const std::string& address, bool tls, Serve serve);

  // Errors (without a Reason): descriptors are short.
  absl::Status Start();

  // Accepts no more. Connections that are served go on, and their numbers are known. Idempotent.
  void Stop();

  // Who has the Unix socket's connection of that number; null when it is none of this acceptor's.
  std::shared_ptr<const Identity> Find(int number) const { return peers_.Find(number); }

  // Closes a connection that is served, for kFlood. `peer` as gRPC has it: "fd:4711",
  // "ipv4:10.0.0.1:4711". Nothing happens when there is none such. Thread-safe; it is done soon.
  void Close(const std::string& peer, const std::string& why);

  // The limit in all that holds: so many that at most half of the descriptors that this process may
  // have go to connections of either kind.
  size_t max_in_all() const { return unix_counts_.max_in_all(); }

 private:
  struct Listening {
    UniqueFd socket;
    std::optional<SocketLock> lock;  // of a Unix socket
    bool is_unix = false;
    bool waits_for_preface = true;
    Serve serve;
  };
  // What shows the end of a connection: the descriptor that was accepted, which stays open.
  struct Connection {
    UniqueFd socket;
    const Listening* from = nullptr;
    Identity who;
    std::string peer;  // as it is counted
    int number = -1;   // of PeerTable; -1: none
    // While it has not begun to speak HTTP/2.
    bool waits = false;
    uint64_t ordinal = 0;
  };
  struct Waiting {
    Clock::time_point until;
    int fd = -1;
    uint64_t ordinal = 0;  // the descriptor's number may be another connection's by then
  };

  void Run();
  int NextTimeoutMs() const;
  void AcceptSome(const Listening& listening);
  bool RefuseForWantOfDescriptors(const Listening& listening);
  void Admit(const Listening& listening, UniqueFd socket);
  std::optional<Identity> WhoConnects(const Listening& listening, int socket);
  void LookAtBeginning(int fd);
  void HandOver(Connection& connection);
  void DropSilent();
  void DropFloods();
  void NoticeCalm();
  void Drop(int fd, RefusedFor what, const std::string& why);
  void Ended(int fd);
  void Refuse(const Identity& who, RefusedFor what, const std::string& why);
  ConnectionCounts& CountsOf(const Listening& listening) {
    return listening.is_unix ? unix_counts_ : tcp_counts_;
  }

  const Options options_;
  PeerTable peers_;
  std::list<Listening> listening_;
  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd spare_;  // given up to refuse a connection when there are no descriptors left
  std::thread thread_;

  struct Closing {
    std::string peer;
    std::string why;
  };
  std::mutex mutex_;
  bool stopping_ = false;         // guarded by mutex_
  std::vector<Closing> closing_;  // guarded by mutex_

  // Of the thread.
  std::map<int, Connection> connections_;
  std::deque<Waiting> waiting_;  // in the order of their ends
  uint64_t last_ordinal_ = 0;
  size_t most_ = 0;                           // connections at once, since it was last calm
  std::optional<Clock::time_point> calm_at_;  // when to say so
  ConnectionCounts unix_counts_;
  ConnectionCounts tcp_counts_;
};

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_CALLER_ACCEPTOR_H_
