#include "server/service/handoff_watchers.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/service/rpc_status.h"

namespace tsc_handoff::service {
namespace {

namespace v1 = tschandoff::v1;

grpc::Status Stopping() {
  return ToGrpcStatus(Error(Reason::kAgentStopping, "the agent is stopping"));
}

}  // namespace

// Deletes itself in OnDone, which gRPC calls once nothing else will come. Its lock is taken inside
// HandoffWatchers' (Publish), never around it.
class HandoffWatchers::Stream final : public grpc::ServerWriteReactor<v1::WatchHandoffsResponse> {
 public:
  Stream(HandoffWatchers& owner, const Request& request)
      : owner_(owner),
        caller_(request.caller),
        wants_(request.wants),
        still_permitted_(request.still_permitted),
        done_(request.done) {}

  const std::string& caller() const { return caller_; }
  bool still_permitted() const { return still_permitted_(); }

  void Push(const v1::Handoff& handoff, bool initial) {
    if (!wants_(handoff.vm_id())) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_) return;
    const size_t max_queued = owner_.limits_.max_queued;
    if (queue_.size() >= max_queued) {
      // None of it is sent any more but the one that gRPC has.
      queue_.erase(queue_.begin() + (writing_ ? 1 : 0), queue_.end());
      FinishLocked(ToGrpcStatus(
          Error(Reason::kLimitExceeded,
                absl::StrCat("the caller reads too slowly: ", max_queued, " changes wait for it"),
                {{"limit", "queued changes"}})));
      return;
    }
    v1::WatchHandoffsResponse& message = queue_.emplace_back();
    *message.mutable_handoff() = handoff;
    message.set_initial(initial);
    WriteLocked();
  }

  void End(const grpc::Status& status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    FinishLocked(status);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) FinishLocked(grpc::Status::CANCELLED);
    WriteLocked();
  }

  void OnCancel() override { End(grpc::Status::CANCELLED); }

  void OnDone() override {
    owner_.Remove(this);
    if (done_) done_(status_);
    delete this;
  }

 private:
  // One message is under way at a time, the first of the queue.
  void WriteLocked() {
    if (writing_ || finished_ || queue_.empty()) return;
    writing_ = true;
    StartWrite(&queue_.front());
  }

  void FinishLocked(const grpc::Status& status) {
    if (finished_) return;
    finished_ = true;
    status_ = status;
    Finish(status);
  }

  HandoffWatchers& owner_;
  const std::string caller_;
  const std::function<bool(const std::string&)> wants_;
  const std::function<bool()> still_permitted_;
  const std::function<void(const grpc::Status&)> done_;
  std::mutex mutex_;
  std::deque<v1::WatchHandoffsResponse> queue_;  // guarded by mutex_
  bool writing_ = false;                         // guarded by mutex_
  bool finished_ = false;                        // guarded by mutex_
  grpc::Status status_;                          // guarded by mutex_
};

grpc::ServerWriteReactor<v1::WatchHandoffsResponse>* HandoffWatchers::Watch(
    const Request& request) {
  auto* stream = new Stream(*this, request);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_) {
    stream->End(Stopping());
  } else if (!request.refused.ok()) {
    stream->End(ToGrpcStatus(request.refused));
  } else if (absl::Status room = CheckRoomLocked(request.caller); !room.ok()) {
    stream->End(ToGrpcStatus(room));
  } else {
    streams_.insert(stream);
    for (const v1::Handoff& handoff : request.pending()) stream->Push(handoff, true);
  }
  return stream;
}

absl::Status HandoffWatchers::CheckRoomLocked(const std::string& caller) const {
  const auto own = std::count_if(streams_.begin(), streams_.end(),
                                 [&](const Stream* stream) { return stream->caller() == caller; });
  if (static_cast<size_t>(own) >= limits_.max_streams_per_caller) {
    return Error(Reason::kLimitExceeded,
                 absl::StrCat(caller, " has ", own,
                              " streams of WatchHandoffs already, which is the limit for each "
                              "caller (--max-watchers-per-caller); end one of them"),
                 {{"limit", "WatchHandoffs streams of a caller"}});
  }
  if (streams_.size() >= limits_.max_streams) {
    return Error(Reason::kLimitExceeded,
                 absl::StrCat("there are ", streams_.size(),
                              " streams of WatchHandoffs already, which is the limit "
                              "(--max-watchers); try again later"),
                 {{"limit", "WatchHandoffs streams"}});
  }
  return absl::OkStatus();
}

bool HandoffWatchers::any() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !streams_.empty();
}

void HandoffWatchers::Publish(const v1::Handoff& handoff) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Stream* stream : streams_) stream->Push(handoff, false);
}

void HandoffWatchers::Recheck() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Stream* stream : streams_) {
    if (!stream->still_permitted())
      stream->End(ToGrpcStatus(Error(Reason::kNotAuthorized,
                                     "the agent's policy has changed, and does not let this "
                                     "caller watch any more")));
  }
}

void HandoffWatchers::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stopped_ = true;
  for (Stream* stream : streams_) stream->End(Stopping());
}

void HandoffWatchers::Remove(Stream* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  streams_.erase(stream);
}

}  // namespace tsc_handoff::service
