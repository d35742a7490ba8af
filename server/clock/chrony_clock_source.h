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

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/clock/chrony_protocol.h"
#include "server/clock/chrony_report.h"
#include "server/clock/chrony_socket.h"
#include "server/clock/clock_source.h"
#include "server/clock/kernel_timex.h"

namespace tsc_handoff::clock {

struct ChronyOptions {
  // "IPv4:PORT" on the loopback (chronyd's cmdport), or the absolute path of its Unix socket, into
  // whose directory this source then puts its own.
  std::string address = "127.0.0.1:323";
  int64_t timeout_ns = 250'000'000;  // for one answer
  Adjtimex adjtimex = SystemAdjtimex;
  std::function<int64_t()> realtime_ns;  // CLOCK_REALTIME; null: the system's
};

class ChronyClockSource final : public ClockSource {
 public:
  explicit ChronyClockSource(ChronyOptions options);

  // kNoAnswer, with a sentence, when chronyd does not answer in time, refuses, or answers what
  // makes no sense. Recovers by itself when chronyd is started anew.
  SourceReport Ask(int64_t monotonic_ns) override;

  // OK for an address of one of the two forms.
  static absl::Status CheckAddress(const std::string& address);

 private:
  absl::StatusOr<ChronyTracking> Exchange();

  ChronyOptions options_;
  std::random_device random_;
  std::optional<ChronySocket> socket_;  // none after an error
  UpdateNames updates_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_CLOCK_SOURCE_H_
