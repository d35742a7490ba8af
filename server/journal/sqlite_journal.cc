#include "server/journal/sqlite_journal.h"

#include <sys/random.h>

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/failpoint.h"
#include "server/journal/journal_files.h"

namespace tsc_handoff::journal {
namespace {

constexpr size_t kAgentIdBytes = 16;

// Order: the lock is taken, and kept, by the first transaction after this; and in this mode WAL
// needs no shared memory.
constexpr char kLockForGood[] = "PRAGMA locking_mode = EXCLUSIVE";
// FULL: a commit returns when the log is on the disk.
constexpr const char* kSettings[] = {
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    // A checkpoint stops whoever commits for several syncs. A log of 16 MiB, four times SQLite's
    // usual one, makes it four times as rare, and is read in well under a second at the start.
    "PRAGMA wal_autocheckpoint = 4000",
    "BEGIN IMMEDIATE",
    "COMMIT",
};

absl::StatusOr<std::string> NewAgentId() {
  std::string id(kAgentIdBytes, '\0');
  if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
    return absl::InternalError("the kernel gave no random bytes");
  return id;
}

std::string WhatToDoWith(const std::string& aside, const std::string& path) {
  return absl::StrCat("Put a good copy in place of ", path, ", or, if no VM of this host is in a ",
                      "handoff and none that has left may start here again, remove ", aside,
                      " to begin anew; then restart the agent");
}

}  // namespace

SqliteJournal::~SqliteJournal() = default;

absl::StatusOr<std::unique_ptr<SqliteJournal>> SqliteJournal::Open(const std::string& path) {
  if (!absl::StartsWith(path, "/"))
    return absl::InvalidArgumentError(
        absl::StrCat("the journal's path must be absolute, not '", path, "'"));
  std::unique_ptr<SqliteJournal> journal(new SqliteJournal(path));
  if (absl::Status status = MakeDirectoryOf(path); !status.ok()) return status;
  absl::Status status;
  if (!Exists(path) && Exists(absl::StrCat(path, "-wal"))) {
    status = absl::DataLossError("it is gone, and its log is not");
  } else if (const auto aside = FindQuarantined(path); !Exists(path) && !aside.empty()) {
    journal->unavailable_reason_ =
        absl::StrCat("the journal ", path, " was damaged and is at ", aside.front(), ". ",
                     WhatToDoWith(aside.front(), path));
    return journal;
  } else {
    if (!Exists(path)) status = journal->Make();
    if (status.ok()) status = journal->OpenFile();
  }
  if (absl::IsDataLoss(status)) status = journal->SetAside(std::string(status.message()));
  if (status.ok()) return journal;
  if (absl::IsAborted(status))
    return absl::AbortedError(absl::StrCat("another agent has the journal ", path, " open"));
  return absl::Status(status.code(), absl::StrCat("the journal ", path, ": ", status.message()));
}

absl::Status SqliteJournal::Make() {
  const auto agent_id = NewAgentId();
  if (!agent_id.ok()) return agent_id.status();
  return MakeJournalFile(path_, [&](const std::string& temporary) -> absl::Status {
    auto database = Database::Open(temporary);
    if (!database.ok()) return database.status();
    if (absl::Status status = (*database)->Execute("PRAGMA synchronous = FULL"); !status.ok())
      return status;
    return MakeSchema(**database, *agent_id);
  });
}

absl::Status SqliteJournal::OpenFile() {
  auto database = Database::Open(path_);
  if (!database.ok()) return database.status();
  if (absl::Status status = (*database)->Execute(kLockForGood); !status.ok()) return status;
  // Before anything is written: SQLite would make a database of an empty file.
  const auto version = CheckSchema(**database);
  if (!version.ok()) return version.status();
  for (const char* setting : kSettings) {
    if (absl::Status status = (*database)->Execute(setting); !status.ok()) return status;
  }
  if (absl::Status status = Migrate(**database, *version, Migrations()); !status.ok())
    return status;
  auto agent_id = ReadAgentId(**database);
  if (!agent_id.ok()) return agent_id.status();
  auto contents = ReadAll(**database);
  if (!contents.ok()) return contents.status();
  auto writer = Writer::Prepare(**database);
  if (!writer.ok()) return writer.status();
  agent_id_ = *std::move(agent_id);
  contents_ = *std::move(contents);
  database_ = *std::move(database);
  writer_ = *std::move(writer);
  return absl::OkStatus();
}

absl::Status SqliteJournal::SetAside(const std::string& why) {
  const auto aside = Quarantine(path_);
  if (!aside.ok()) return aside.status();
  unavailable_reason_ =
      absl::StrCat("the journal ", path_, " is damaged (", why, ") and was moved to ", *aside, ". ",
                   WhatToDoWith(*aside, path_));
  return absl::OkStatus();
}

absl::StatusOr<Contents> SqliteJournal::Load() {
  if (const std::string reason = unavailable_reason(); !reason.empty())
    return Error(Reason::kJournalUnavailable, reason);
  return std::move(contents_);
}

std::string SqliteJournal::unavailable_reason() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return unavailable_reason_;
}

absl::Status SqliteJournal::Write(const Change& change) {
  Failpoint("journal.write.waiting");
  absl::Status status = Do([&](Writer& writer) { return writer.Put(change); });
  Failpoint("journal.write.done");
  return status;
}

absl::StatusOr<std::vector<HandoffKey>> SqliteJournal::Compact(int64_t changed_before_ns) {
  std::vector<HandoffKey> dropped;
  const absl::Status status = Do([&](Writer& writer) -> absl::Status {
    auto keys = writer.DropEnded(changed_before_ns);
    if (keys.ok()) dropped = *std::move(keys);
    return keys.status();
  });
  if (!status.ok()) return status;
  return dropped;
}

absl::Status SqliteJournal::Do(const Work& work) {
  Waiting mine{&work, absl::OkStatus(), false};
  std::unique_lock<std::mutex> lock(mutex_);
  queue_.push_back(&mine);
  changed_.wait(lock, [&] { return mine.done || !committing_; });
  if (mine.done) return mine.status;
  // Commits for all who wait, itself among them.
  committing_ = true;
  const std::vector<Waiting*> batch = std::exchange(queue_, {});
  const std::string reason = unavailable_reason_;
  lock.unlock();
  const absl::Status status =
      reason.empty() ? Commit(batch) : Error(Reason::kJournalUnavailable, reason);
  lock.lock();
  committing_ = false;
  for (Waiting* waiting : batch) {
    waiting->status = status;
    waiting->done = true;
  }
  lock.unlock();
  changed_.notify_all();
  return status;
}

absl::Status SqliteJournal::Commit(const std::vector<Waiting*>& batch) {
  const auto started = std::chrono::steady_clock::now();
  absl::Status status = writer_->Begin();
  for (const Waiting* waiting : batch) {
    if (status.ok()) status = (*waiting->work)(*writer_);
  }
  Failpoint("journal.commit.written");
  if (!status.ok()) {
    // Nothing has been committed, and if it can be taken back, nothing will be.
    if (absl::Status undone = database_->Execute("ROLLBACK"); !undone.ok()) GiveUp(undone);
    return Error(Reason::kJournalUnavailable,
                 absl::StrCat("the journal ", path_, " took no change: ", status.message()));
  }
  status = writer_->Commit();
  Failpoint("journal.commit.synced");
  if (!status.ok()) {
    // The disk may have it or not, and after a failed sync it would not say so a second time.
    GiveUp(status);
    return Error(Reason::kJournalUnavailable, unavailable_reason());
  }
  if (on_commit_) {
    const auto took = std::chrono::steady_clock::now() - started;
    on_commit_(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
  }
  return absl::OkStatus();
}

void SqliteJournal::GiveUp(const absl::Status& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  unavailable_reason_ =
      absl::StrCat("the journal ", path_, " cannot be written any more: ", why.message(),
                   ". See that its disk works and has room, then restart the agent");
}

}  // namespace tsc_handoff::journal
