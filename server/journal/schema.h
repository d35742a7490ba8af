// The tables of the journal's file: made, brought up to date, read and written.
//
// Every row has a checksum: SQLite finds damage to its own structures, not to what is kept in them.
//
// Threading: that of the database.
#ifndef TSC_HANDOFF_SERVER_JOURNAL_SCHEMA_H_
#define TSC_HANDOFF_SERVER_JOURNAL_SCHEMA_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/journal/journal.h"
#include "server/journal/sqlite.h"

namespace tsc_handoff::journal {

// The statements that make version N of the tables from version N - 1; those of version 1 start
// from an empty database. A released version's statements never change.
using Migration = std::vector<const char*>;
const std::vector<Migration>& Migrations();

// Brings an intact database of version `from` (0: empty) up to the last of `migrations`, all of it
// or nothing.
absl::Status Migrate(Database& database, int from, const std::vector<Migration>& migrations);

// Makes the tables of an empty database, and names the agent.
absl::Status MakeSchema(Database& database, const std::string& agent_id);

// Whether this is an intact journal of a version that this program knows; which one. Reads only.
// Errors: kDataLoss when it is damaged, kFailedPrecondition when a newer program made it.
absl::StatusOr<int> CheckSchema(Database& database);

// Errors: kDataLoss when a row's checksum is wrong.
absl::StatusOr<std::string> ReadAgentId(Database& database);
absl::StatusOr<Contents> ReadAll(Database& database);

// Prepared once, used for every change. Outlived by the database.
class Writer {
 public:
  static absl::StatusOr<std::unique_ptr<Writer>> Prepare(Database& database);

  // Prepared once: a tenth of a commit's time went into parsing these.
  absl::Status Begin() { return begin_.Run(); }
  absl::Status Commit() { return commit_.Run(); }

  // In the caller's transaction.
  absl::Status Put(const Change& change);
  // See Journal::Compact.
  absl::StatusOr<std::vector<HandoffKey>> DropEnded(int64_t changed_before_ns);

 private:
  Writer(Statement begin, Statement commit, Statement put_handoff, Statement put_vm,
         Statement drop_ended)
      : begin_(std::move(begin)),
        commit_(std::move(commit)),
        put_handoff_(std::move(put_handoff)),
        put_vm_(std::move(put_vm)),
        drop_ended_(std::move(drop_ended)) {}

  Statement begin_;
  Statement commit_;
  Statement put_handoff_;
  Statement put_vm_;
  Statement drop_ended_;
};

}  // namespace tsc_handoff::journal

#endif  // TSC_HANDOFF_SERVER_JOURNAL_SCHEMA_H_
