// ChronyClockSource: asks the local chronyd how good the clock is, over its command port or its
// Unix socket. TAI offset and the kernel's own leap second flags come from adjtimex, since chronyd
// does not tell them.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CHRONY_CLOCK_SOURCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_CHRONY_CLOCK_SOURCE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"
#include "server/clock/chrony_protocol.h"
#include "server/clock/clock_source.h"
#include "server/clock/kernel_timex.h"

namespace tsc_handoff::clock {

struct ChronyOptions {
  // "IPv4:PORT" (chronyd's cmdport), or the absolute path of its Unix socket, into whose directory
  // this source then puts its own.
  std::string address = "127.0.0.1:323";
  int64_t timeout_ns = 250'000'000;  // for one answer
  Adjtimex adjtimex = SystemAdjtimex;
  std::function<int64_t()> realtime_ns;  // CLOCK_REALTIME; null: the system's
};

class ChronyClockSource final : public ClockSource {
 public:
  explicit ChronyClockSource(ChronyOptions options);
  ~ChronyClockSource() override;
  ChronyClockSource(const ChronyClockSource&) = delete;
  ChronyClockSource& operator=(const ChronyClockSource&) = delete;

  SourceReport Ask(int64_t monotonic_ns) override;

  // OK for an address of one of the two forms.
  static absl::Status CheckAddress(const std::string& address);

 private:
  // Each error is why chronyd could not be asked, in a sentence.
  absl::Status Open();
  absl::Status OpenUnix();
  absl::Status OpenUdp();
  absl::StatusOr<ChronyTracking> Exchange();
  absl::StatusOr<ChronyTracking> AwaitReply(uint32_t sequence);
  absl::Status Failed(const char* what) const;
  void Close();
  // Another one after each update, and the same one although chronyd shifts the time of its last
  // update a little whenever it slews the clock.
  int64_t UpdateId(int64_t reference_ns);

  const ChronyOptions options_;
  std::random_device random_;
  UniqueFd socket_;
  std::string own_path_;  // of the Unix socket, while it exists
  std::optional<int64_t> last_update_ns_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_CLOCK_SOURCE_H_
