#include "server/journal/sqlite.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::journal {
namespace {

absl::Status ToStatus(sqlite3* database, int code, const std::string& what) {
  const std::string text = absl::StrCat(
      what, ": ", database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code));
  switch (code & 0xff) {  // the primary code of an extended one
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:
      return absl::DataLossError(text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::AbortedError(text);
    default:
      return absl::InternalError(text);
  }
}

}  // namespace

void Statement::Bind(int parameter, int64_t value) {
  Note(sqlite3_bind_int64(statement_.get(), parameter, value));
}

void Statement::BindText(int parameter, const std::string& value) {
  Note(sqlite3_bind_text64(statement_.get(), parameter, value.data(), value.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Statement::BindBlob(int parameter, const std::string& value) {
  Note(sqlite3_bind_blob64(statement_.get(), parameter, value.data(), value.size(),
                           SQLITE_TRANSIENT));
}

absl::StatusOr<bool> Statement::Step() {
  int code = std::exchange(bound_, SQLITE_OK);
  if (code == SQLITE_OK) code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  absl::Status status;
  if (code != SQLITE_DONE) status = ToStatus(database_, code, sqlite3_sql(statement_.get()));
  sqlite3_reset(statement_.get());
  if (!status.ok()) return status;
  return false;
}

absl::Status Statement::Run() {
  for (;;) {
    const absl::StatusOr<bool> row = Step();
    if (!row.ok()) return row.status();
    if (!*row) return absl::OkStatus();
  }
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string Statement::Bytes(int column) const {
  // In this order, says SQLite: the first may convert the value, the second measures it.
  const void* const bytes = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Database> database(new Database(opened));
  if (code != SQLITE_OK) return ToStatus(opened, code, absl::StrCat("open ", path));
  sqlite3_extended_result_codes(opened, 1);
  return database;
}

absl::StatusOr<Statement> Database::Prepare(const char* sql) {
  sqlite3_stmt* prepared = nullptr;
  const int code =
      sqlite3_prepare_v3(database_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
  if (code != SQLITE_OK) return ToStatus(database_.get(), code, sql);
  return Statement(database_.get(), prepared);
}

absl::Status Database::Execute(const char* sql) {
  absl::StatusOr<Statement> statement = Prepare(sql);
  return statement.ok() ? statement->Run() : statement.status();
}

absl::StatusOr<std::string> Database::Ask(const char* sql) {
  absl::StatusOr<Statement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->Bytes(0) : std::string();
}

}  // namespace tsc_handoff::journal
