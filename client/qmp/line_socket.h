// A stream socket that is read in lines, with a deadline for everything and a limit on a line: the
// other side is not trusted to end one.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_QMP_LINE_SOCKET_H_
#define TSC_HANDOFF_CLIENT_QMP_LINE_SOCKET_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/qmp/qmp_address.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::qmp {

class LineSocket {
 public:
  // UNAVAILABLE when nobody listens there, DEADLINE_EXCEEDED when it takes too long.
  static absl::StatusOr<LineSocket> Connect(const QmpAddress& address, absl::Duration timeout);

  // REQUIRES: `fd` is a connected stream socket in non-blocking mode.
  explicit LineSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  absl::Status Write(absl::string_view text, absl::Duration timeout);

  // A line without its end, or nothing within `timeout`. UNAVAILABLE at the stream's end, DATA_LOSS
  // for a line of more than `max_bytes`.
  absl::StatusOr<std::optional<std::string>> ReadLine(size_t max_bytes, absl::Duration timeout);

 private:
  // Whether it is ready for `events` before `deadline`.
  absl::StatusOr<bool> Wait(short events, absl::Time deadline);
  std::optional<std::string> TakeLine();

  UniqueFd fd_;
  std::string buffer_;
  size_t searched_ = 0;  // bytes of the buffer that have no line's end
};

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_LINE_SOCKET_H_
