// Audit: who did what, and who was refused: one line of JSON for each call that changes something
// and for each call that authorisation refuses, in a file that is only ever appended to, or in the
// agent's log.
//
// A line is written before the caller has his answer. One that the file does not take (a full
// disk) goes to the log instead and is counted; the call goes on, since to stop in the middle of a
// handoff would leave a VM paused. Nothing secret is in it: no proofs, and of states the digest.
//
// Threading: thread-safe. Write blocks for a write to the file, not for a disk.
#ifndef TSC_HANDOFF_SERVER_AUTH_AUDIT_H_
#define TSC_HANDOFF_SERVER_AUTH_AUDIT_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/auth/identity.h"
#include "server/base/log_limiter.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::auth {

struct AuditEvent {
  Identity who;
  std::string method;        // "SetTscState"
  std::string vm_id;         // empty: it is about none, or about one that is not known
  std::string handoff_id;    // empty: about none
  uint64_t epoch = 0;        // 0: none
  std::string state_sha256;  // of the state's payload, in hexadecimal; empty: there is none
  std::string reason;        // the ErrorReason's name; empty: it was done
  std::string why;           // the error's sentence
  absl::Duration took = absl::ZeroDuration();
};

class Audit {
 public:
  // `path` empty: lines go to the log. `on_write_error` may be empty; it is called for each line
  // that the file did not take.
  Audit(std::string path, std::function<void()> on_write_error)
      : path_(std::move(path)), on_write_error_(std::move(on_write_error)) {}

  // Opens the file, or opens it anew, as after its rotation. When it cannot, the old one stays.
  // Errors (without a Reason): the file cannot be opened, or is something else.
  absl::Status Open();

  // Of what was `refused_at_the_door`, which anybody may cause as often as he likes, a burst of 200
  // lines is written, and then 20 a second; the next one says how many were not.
  void Write(const AuditEvent& event, bool refused_at_the_door = false);

  // Whether a line would be written at all: the log's level may be above it.
  bool Wants(bool refused_at_the_door) const;

 private:
  // False when the file did not take it.
  bool Append(std::string line);

  const std::string path_;
  const std::function<void()> on_write_error_;
  std::mutex mutex_;
  UniqueFd file_;                 // guarded by mutex_
  bool in_the_middle_ = false;    // of a line that was cut off; guarded by mutex_
  LogLimiter refusals_{200, 20};  // guarded by mutex_
};

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_AUDIT_H_
