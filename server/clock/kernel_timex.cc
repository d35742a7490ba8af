#include "server/clock/kernel_timex.h"

#include <cerrno>

namespace tsc_handoff::clock {
namespace {

// TAI was 10 s ahead when leap seconds began. A kernel that was never told counts from 0 all the
// same when it inserts one: what is below is no knowledge.
constexpr int64_t kMinTaiOffsetS = 10;
constexpr int64_t kMaxTaiOffsetS = 1000;

}  // namespace

int SystemAdjtimex(timex* values) {
  const int state = adjtimex(values);
  return state < 0 ? -errno : state;
}

int32_t TaiOffsetS(const timex& values) {
  return values.tai >= kMinTaiOffsetS && values.tai <= kMaxTaiOffsetS
             ? static_cast<int32_t>(values.tai)
             : 0;
}

bool LeapSecond(int state, const timex& values) {
  // TIME_ERROR hides the state of the leap second, but not that one has been ordered.
  if (state == TIME_ERROR) return (values.status & (STA_INS | STA_DEL)) != 0;
  return state == TIME_INS || state == TIME_DEL || state == TIME_OOP || state == TIME_WAIT;
}

KernelTai ReadKernelTai(const Adjtimex& adjtimex) {
  timex values = {};
  const int state = adjtimex(&values);
  if (state < 0) return {};
  return {TaiOffsetS(values), LeapSecond(state, values)};
}

}  // namespace tsc_handoff::clock
