// SQLite as far as the journal needs it: a database, statements, statuses instead of codes.
//
// Statuses: kDataLoss for a damaged file (SQLITE_CORRUPT, SQLITE_NOTADB, and SQLITE_ERROR, which is
// a table or column that is missing, since our statements are tested), kAborted when another
// process or journal has the file open (SQLITE_BUSY), kInternal for everything else. The message is
// SQLite's, after what was tried.
//
// Threading: one thread at a time for a database and all its statements.
#ifndef TSC_HANDOFF_SERVER_JOURNAL_SQLITE_H_
#define TSC_HANDOFF_SERVER_JOURNAL_SQLITE_H_

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tsc_handoff::journal {

class Database;

// A prepared statement. Parameters and columns count as SQLite counts them: from 1, and from 0.
class Statement {
 public:
  // Of the values bound since the last Step. An error of Bind shows at the next Step.
  void Bind(int parameter, int64_t value);
  void BindText(int parameter, const std::string& value);
  void BindBlob(int parameter, const std::string& value);

  // True: there is a row, whose columns may be read until the next Step. False: that was all, and
  // the statement may be bound and stepped anew.
  absl::StatusOr<bool> Step();
  // Steps to the end, without looking at rows.
  absl::Status Run();

  int64_t Int(int column) const;
  // Text or blob.
  std::string Bytes(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  Statement(sqlite3* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}

  void Note(int code) {
    if (bound_ == SQLITE_OK) bound_ = code;
  }

  sqlite3* database_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = SQLITE_OK;  // the first error of binding
};

// Outlives its statements.
class Database {
 public:
  // Opens a file that exists.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path);

  absl::StatusOr<Statement> Prepare(const char* sql);
  // One statement, whose rows are left out.
  absl::Status Execute(const char* sql);
  // The first column of the first row.
  absl::StatusOr<std::string> Ask(const char* sql);
  // Whether a transaction is open.
  bool InTransaction() const { return sqlite3_get_autocommit(database_.get()) == 0; }

 private:
  struct Close {
    void operator()(sqlite3* database) const { sqlite3_close(database); }
  };
  explicit Database(sqlite3* database) : database_(database) {}

  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace tsc_handoff::journal

#endif  // TSC_HANDOFF_SERVER_JOURNAL_SQLITE_H_
