// HandoffWatchers: the streams of WatchHandoffs.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_SERVICE_HANDOFF_WATCHERS_H_
#define TSC_HANDOFF_SERVER_SERVICE_HANDOFF_WATCHERS_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::service {

class HandoffWatchers {
 public:
  struct Limits {
    size_t max_streams = 64;  // open at once
    size_t max_streams_per_caller = 16;
    // Messages that a stream may be behind. A reader that is behind by more is told so, in place of
    // what waits for it; where he reads nothing at all, the connection's keepalive ends him.
    size_t max_queued = 4096;
  };

  struct Request {
    std::string caller;    // by whose name streams are counted
    absl::Status refused;  // not OK: the stream ends with it at once
    // Whether the stream is to have the handoffs of this VM; asked for each message, with a lock
    // held.
    std::function<bool(const std::string& vm_id)> wants;
    // Whether it may go on; asked by Recheck.
    std::function<bool()> still_permitted;
    // The handoffs to begin with; called when nothing can slip through between it and the first
    // change.
    std::function<std::vector<tschandoff::v1::Handoff>()> pending;
    std::function<void(const grpc::Status&)> done;  // called at the stream's end
  };

  explicit HandoffWatchers(const Limits& limits) : limits_(limits) {}

  // Begins a stream.
  grpc::ServerWriteReactor<tschandoff::v1::WatchHandoffsResponse>* Watch(const Request& request);

  // Whether anybody watches; a change need not be converted for nobody.
  bool any() const;
  // A change that is durable. Never blocks on a stream.
  void Publish(const tschandoff::v1::Handoff& handoff);
  // Ends the streams that may not go on, with NOT_AUTHORIZED.
  void Recheck();
  // Ends all streams, and those that come later.
  void Stop();

 private:
  class Stream;

  void Remove(Stream* stream);
  absl::Status CheckRoomLocked(const std::string& caller) const;

  const Limits limits_;
  mutable std::mutex mutex_;
  bool stopped_ = false;       // guarded by mutex_
  std::set<Stream*> streams_;  // guarded by mutex_
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_HANDOFF_WATCHERS_H_
