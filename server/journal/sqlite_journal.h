// SqliteJournal: the journal as a file of SQLite's, in WAL mode with synchronous=FULL.
//
// A damaged file is moved aside and never taken for an empty one: the journal is then unavailable,
// now and at every later start, until somebody puts a good file in its place or decides, by
// removing the damaged one, that nothing in it is needed.
//
// Threading: thread-safe. Of concurrent writers one commits for all that wait.
#ifndef TSC_HANDOFF_SERVER_JOURNAL_SQLITE_JOURNAL_H_
#define TSC_HANDOFF_SERVER_JOURNAL_SQLITE_JOURNAL_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/journal/journal.h"
#include "server/journal/schema.h"
#include "server/journal/sqlite.h"

namespace tsc_handoff::journal {

class SqliteJournal final : public Journal {
 public:
  // Opens the file at `path`, an absolute one, or makes it, and the directory that it is in. No
  // other journal can open it while this one lives. For a damaged file, or where one was moved
  // aside before, the journal is there and unavailable. Errors: kInvalidArgument (path), kAborted
  // (another one has it open), kFailedPrecondition (made by a newer agent), kInternal (it cannot be
  // made, read or locked).
  static absl::StatusOr<std::unique_ptr<SqliteJournal>> Open(const std::string& path);
  ~SqliteJournal() override;

  // Empty while the journal is unavailable.
  const std::string& agent_id() const override { return agent_id_; }
  absl::StatusOr<Contents> Load() override;
  absl::Status Write(const Change& change) override;
  absl::StatusOr<std::vector<HandoffKey>> Compact(int64_t changed_before_ns) override;
  void set_on_commit(std::function<void(int64_t commit_ns)> on_commit) override {
    on_commit_ = std::move(on_commit);
  }
  std::string unavailable_reason() const override;

 private:
  using Work = std::function<absl::Status(Writer&)>;
  // What a thread wants done, while it waits for that.
  struct Waiting {
    const Work* work = nullptr;
    absl::Status status;
    bool done = false;
  };

  explicit SqliteJournal(std::string path) : path_(std::move(path)) {}
  absl::Status Make();
  // Opens the file, and reads everything that is in it. kDataLoss: it is damaged.
  absl::Status OpenFile();
  absl::Status SetAside(const std::string& why);
  // Does `work` in a transaction, together with what other threads want, and makes it durable.
  absl::Status Do(const Work& work);
  absl::Status Commit(const std::vector<Waiting*>& batch);
  void GiveUp(const absl::Status& why);

  const std::string path_;
  std::string agent_id_;
  Contents contents_;  // until Load
  std::function<void(int64_t)> on_commit_;

  // Used by the thread that has set committing_.
  std::unique_ptr<Database> database_;
  std::unique_ptr<Writer> writer_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Waiting*> queue_;     // guarded by mutex_
  bool committing_ = false;         // guarded by mutex_
  std::string unavailable_reason_;  // guarded by mutex_
};

}  // namespace tsc_handoff::journal

#endif  // TSC_HANDOFF_SERVER_JOURNAL_SQLITE_JOURNAL_H_
