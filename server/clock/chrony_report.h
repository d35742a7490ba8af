// What chronyd's answer says of the clock.
//
// Threading: ReportFromTracking is pure; UpdateNames belongs to one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CHRONY_REPORT_H_
#define TSC_HANDOFF_SERVER_CLOCK_CHRONY_REPORT_H_

#include <cstdint>
#include <optional>

#include "server/clock/chrony_protocol.h"
#include "server/clock/clock_source.h"

namespace tsc_handoff::clock {

// `realtime_ns` is CLOCK_REALTIME when the answer arrived. The bound is |correction| + root
// dispersion + root delay / 2, rounded up. The update interval is that of the last two updates, but
// no less than chronyd's default poll of 64 s. Values that no clock has are kNoAnswer. Fills
// everything but update_id, TAI offset and the kernel's leap second.
SourceReport ReportFromTracking(const ChronyTracking& tracking, int64_t realtime_ns);

// Tells updates apart by their time: gives another name after each update, and the same one
// although chronyd shifts the time of its last update a little whenever it slews the clock.
class UpdateNames {
 public:
  int64_t NameOf(int64_t reference_ns);

 private:
  std::optional<int64_t> seen_ns_;  // the last update's time, as it was last told
  int64_t name_ = 0;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_REPORT_H_
