// The files of a journal: PATH, SQLite's log beside it (PATH-wal), and damaged ones that were moved
// aside (PATH.damaged-TIME).
//
// A journal is made under another name and renamed when it is complete, so that a file under PATH
// that is empty or incomplete is damaged, and never a new one.
//
// Threading: pure functions on the file system; one process at a time for a path.
#ifndef TSC_HANDOFF_SERVER_JOURNAL_JOURNAL_FILES_H_
#define TSC_HANDOFF_SERVER_JOURNAL_JOURNAL_FILES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tsc_handoff::journal {

// Makes the directory that `path` is in, if it is not there, for this user only; not those above
// it.
absl::Status MakeDirectoryOf(const std::string& path);

bool Exists(const std::string& path);

// Makes PATH, readable by this user only: `fill` writes it under the name that it gets.
absl::Status MakeJournalFile(const std::string& path,
                             const std::function<absl::Status(const std::string&)>& fill);

// The damaged ones that were moved aside, oldest first.
std::vector<std::string> FindQuarantined(const std::string& path);

// Moves PATH and its log aside; returns where to.
absl::StatusOr<std::string> Quarantine(const std::string& path);

}  // namespace tsc_handoff::journal

#endif  // TSC_HANDOFF_SERVER_JOURNAL_JOURNAL_FILES_H_
