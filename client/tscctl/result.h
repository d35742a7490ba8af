// How a command ends, and how that is told.
//
// Threading: values; one Io belongs to one run of tscctl.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_RESULT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_RESULT_H_

#include <optional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/tscctl/format.h"

namespace tsc_handoff::tscctl {

// Documented in `tscctl --help`; scripts depend on them.
enum class ExitCode {
  kOk = 0,
  kRefused = 1,
  kUsage = 2,
  kUnreachable = 3,
  kNoAnswer = 4,
  kLocalFile = 5,
};

struct Failure {
  // Its code, reason, metadata and next step are shown.
  absl::Status status;
  ExitCode exit_code = ExitCode::kRefused;
  // What state things are in now; empty where nothing can have changed.
  std::string situation = {};
  // Replaces the status's next step where this program knows better.
  std::string next_step = {};
  // Replaces the status's reason.
  std::string reason = {};
};

// A failure in words: its reason for programs, what happened, and what to do.
struct Explanation {
  std::string reason;
  std::string message;
  std::string next_step;
};

// Nothing means success.
using Result = std::optional<Failure>;

// Where a command prints.
struct Io {
  std::ostream& out;
  std::ostream& err;
  Palette out_palette;
  Palette err_palette;
  bool json = false;
  // A person watches stderr.
  bool show_progress = false;
  // For commands that stay: what stands behind `out`, -1 where nothing does.
  int out_fd = -1;
  bool out_is_terminal = false;
  // Colours are wanted, where there is a terminal.
  bool color = false;
};

// The failure of a call to an agent; chooses the exit code.
Failure CallFailure(const absl::Status& status, absl::string_view doing);

// The failure of a local file.
Failure FileFailure(const absl::Status& status, absl::string_view next_step);

Failure UsageFailure(absl::string_view message, absl::string_view help_command);

Explanation Explain(const Failure& failure);

// Tells it on stderr: "tscctl: ...", "reason: ...", "next: ..." or a JSON object.
void PrintFailure(const Failure& failure, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_RESULT_H_
