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

#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::service {

class HandoffWatchers {
 public:
  // Streams open at once.
  static constexpr size_t kMaxStreams = 64;
  // Messages that a stream may be behind.
  static constexpr size_t kMaxQueued = 4096;

  // Begins a stream of the handoffs of `vm_id` (empty: all) with those that `pending` returns; it
  // is called when nothing can slip through between it and the first change. `done` is called at
  // its end.
  grpc::ServerWriteReactor<tschandoff::v1::WatchHandoffsResponse>* Watch(
      const std::string& vm_id,
      const std::function<std::vector<tschandoff::v1::Handoff>()>& pending,
      std::function<void(const grpc::Status&)> done);

  // Whether anybody watches; a change need not be converted for nobody.
  bool any() const;
  // A change that is durable. Never blocks on a stream.
  void Publish(const tschandoff::v1::Handoff& handoff);
  // Ends all streams, and those that come later.
  void Stop();

 private:
  class Stream;

  void Remove(Stream* stream);

  mutable std::mutex mutex_;
  bool stopped_ = false;       // guarded by mutex_
  std::set<Stream*> streams_;  // guarded by mutex_
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_HANDOFF_WATCHERS_H_
