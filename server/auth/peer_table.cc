#include "server/auth/peer_table.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::auth {
namespace {

// The kernel's table of descriptors is as long as the highest number says.
constexpr rlim_t kHighest = 65'536;
constexpr int kNumbers = 16'384;

int EndOfNumbers() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return static_cast<int>(std::min(limit.rlim_cur, kHighest));
}

}  // namespace

PeerTable::PeerTable()
    : PeerTable(std::max(EndOfNumbers() / 2, EndOfNumbers() - kNumbers), EndOfNumbers()) {}

bool PeerTable::MayBeTakenLocked(int number, Clock::time_point now) const {
  const auto found = entries_.find(number);
  return found == entries_.end() || (found->second.ended && now - found->second.ended_at >= kRest);
}

absl::StatusOr<UniqueFd> PeerTable::Admit(int socket, Identity identity, Clock::time_point now) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Once through the range and back to where it began.
  for (int left = 2 * (end_ - first_); left > 0; --left) {
    if (next_ >= end_) next_ = first_;
    if (!MayBeTakenLocked(next_, now)) {
      ++next_;
      continue;
    }
    UniqueFd duplicate(fcntl(socket, F_DUPFD_CLOEXEC, next_));
    const int number = duplicate.get();
    if (number < 0 && next_ == first_)
      return absl::ResourceExhaustedError(
          absl::StrCat("the agent is out of descriptors: ", std::strerror(errno)));
    // Somebody else has all numbers up to the end, or those up to `number`.
    left -= number < 0 ? 0 : number - next_;
    next_ = number < 0 || number >= end_ ? first_ : number + 1;
    if (number < 0 || number >= end_ || !MayBeTakenLocked(number, now)) continue;
    entries_[number] = {.identity = std::make_shared<const Identity>(std::move(identity))};
    return duplicate;
  }
  return absl::ResourceExhaustedError("too many connections have come and gone just now");
}

void PeerTable::Ended(int number, Clock::time_point now) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(number);
  if (found == entries_.end()) return;
  found->second.ended = true;
  found->second.ended_at = now;
}

std::shared_ptr<const Identity> PeerTable::Find(int number) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(number);
  return found == entries_.end() ? nullptr : found->second.identity;
}

}  // namespace tsc_handoff::auth
