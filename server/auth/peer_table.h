// PeerTable: which connection has which identity, by the number of its descriptor, which is what
// gRPC says of the peer of a connection that it was given ("fd:N").
//
// A number must never stand for two callers: a call of a connection that has ended may still be
// under way when its number is free again. So numbers are given out in turn, from a range where
// nothing else takes the first free one, and each rests for a while after its connection's end.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_AUTH_PEER_TABLE_H_
#define TSC_HANDOFF_SERVER_AUTH_PEER_TABLE_H_

#include <chrono>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "server/auth/identity.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::auth {

class PeerTable {
 public:
  using Clock = std::chrono::steady_clock;

  // How long a number rests. A call is looked up when it comes in, so microseconds would do.
  static constexpr std::chrono::seconds kRest{10};

  // Numbers from `first` to before `end`. By default the last 16,384 below the process's limit of
  // descriptors, or 65,536; half of them, if there are fewer.
  PeerTable();
  PeerTable(int first, int end) : first_(first), end_(end), next_(first) {}

  // A duplicate of `socket` whose number stands for `identity` from now on. Errors (without a
  // Reason): there is no descriptor, or none that has rested.
  absl::StatusOr<UniqueFd> Admit(int socket, Identity identity, Clock::time_point now);

  // The connection has ended.
  void Ended(int number, Clock::time_point now);

  // Null when the number stands for nobody.
  std::shared_ptr<const Identity> Find(int number) const;

 private:
  struct Entry {
    std::shared_ptr<const Identity> identity;
    bool ended = false;
    Clock::time_point ended_at = {};
  };

  bool MayBeTakenLocked(int number, Clock::time_point now) const;

  const int first_;
  const int end_;
  mutable std::mutex mutex_;
  int next_;                                // guarded by mutex_
  std::unordered_map<int, Entry> entries_;  // guarded by mutex_
};

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_PEER_TABLE_H_
