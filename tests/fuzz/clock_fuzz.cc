// What chronyd and the kernel say of the clock. Whatever it is, a report that claims a clock to be
// right claims a bound that makes sense.
#include <sys/timex.h>

#include <cmath>
#include <cstring>

#include "server/clock/chrony_protocol.h"
#include "server/clock/chrony_reply.h"
#include "server/clock/chrony_report.h"
#include "server/clock/kernel_clock_source.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

constexpr uint32_t kSequence = 0x5eed;
constexpr int64_t kRealtimeNs = 1'700'000'000'000'000'000;

void CheckReport(const clock::SourceReport& report) {
  if (report.word != clock::SourceReport::Word::kSynchronised) {
    FUZZ_CHECK(!report.problem.empty());
    return;
  }
  FUZZ_CHECK(report.error_bound_ns > 0);
  FUZZ_CHECK(report.bound_age_ns >= 0);
  FUZZ_CHECK(report.update_interval_ns >= 0);
  FUZZ_CHECK(std::isfinite(report.frequency_correction));
}

void TryChrony(Bytes& bytes) {
  const auto realtime_ns = bytes.Take<uint8_t>() == 0 ? kRealtimeNs : bytes.Take<int64_t>();
  std::string datagram = bytes.TakeRest();
  (void)clock::ReplySequence(datagram);
  const auto tracking = clock::ParseTrackingReply(datagram, kSequence);
  if (tracking.ok()) CheckReport(clock::ReportFromTracking(*tracking, realtime_ns));
}

void TryKernel(Bytes& bytes) {
  int64_t now_ns = 0;
  clock::KernelClockSource source([&bytes](timex* values) {
    *values = bytes.Take<timex>();
    return static_cast<int>(bytes.Take<int8_t>());
  });
  do {
    now_ns += bytes.Take<uint32_t>();
    CheckReport(source.Ask(now_ns));
  } while (!bytes.empty());
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string chrony(1, '\0');
  const std::string now(1, '\0');
  std::vector<std::string> seeds = {chrony + now + clock::ChronyReply{}.Bytes(kSequence)};
  clock::ChronyReply other;
  other.correction_s = -3e9;
  other.root_delay_s = 1e-9;
  other.update_interval_s = 0;
  other.leap_status = 3;
  seeds.push_back(chrony + now + other.Bytes(kSequence));
  clock::ChronyReply refused;
  refused.status = 5;
  seeds.push_back(chrony + now + refused.Bytes(kSequence));
  timex values = {};
  values.maxerror = 1500;
  values.tick = 10'000;
  values.tai = 37;
  const std::string state(1, static_cast<char>(TIME_OK));
  const std::string look = std::string(4, '\x10') +
                           std::string(reinterpret_cast<const char*>(&values), sizeof(values)) +
                           state;
  seeds.push_back("\x01" + look + look);
  return seeds;
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tsc_handoff::fuzz::Bytes bytes(data, size);
  if (bytes.Take<uint8_t>() % 2 == 0) {
    tsc_handoff::fuzz::TryChrony(bytes);
  } else {
    tsc_handoff::fuzz::TryKernel(bytes);
  }
  return 0;
}
