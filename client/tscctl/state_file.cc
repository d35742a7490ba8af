#include "client/tscctl/state_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "client/lib/state_view.h"
#include "client/tscctl/whole_file.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

// A state's payload has at most 256 KiB.
constexpr size_t kMaxFileBytes = 300 * 1024;

}  // namespace

absl::Status WriteStateFile(const std::string& path, const v1::TscState& state, bool overwrite) {
  return WriteWholeFile(path, state.SerializeAsString(), overwrite, 0600);
}

absl::StatusOr<v1::TscState> ReadStateFile(const std::string& path) {
  // O_NONBLOCK: a FIFO that nobody writes to must not hold us; for files it means nothing.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError(errno, "open", path);
  const absl::Cleanup close_file = [fd] { close(fd); };
  std::string bytes(kMaxFileBytes + 1, '\0');
  size_t length = 0;
  while (length < bytes.size()) {
    const ssize_t got = read(fd, bytes.data() + length, bytes.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(errno, "read", path);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  bytes.resize(length);
  if (bytes.empty()) return absl::DataLossError(absl::StrCat(path, " is empty"));
  if (bytes.size() > kMaxFileBytes) {
    return absl::DataLossError(
        absl::StrCat(path, " is no TSC state: it is larger than ", kMaxFileBytes, " bytes"));
  }
  v1::TscState state;
  if (!state.ParseFromString(bytes) || state.format_version() == 0 || state.payload().empty()) {
    return absl::DataLossError(
        absl::StrCat(path, " is no TSC state as `tscctl get --out` writes it"));
  }
  const absl::Status check = client::DecodeState(state).status();
  const bool newer =
      state.format_version() != 1 && client::ReasonOf(check) == v1::STATE_VERSION_UNSUPPORTED;
  if (!check.ok() && !newer) return client::Annotate(check, path);
  return state;
}

}  // namespace tsc_handoff::tscctl
