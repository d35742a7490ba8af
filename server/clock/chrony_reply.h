// ChronyReply: a tracking reply as chronyd would send it, for tests to change. Written from the
// protocol's description, independently of the parser.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CHRONY_REPLY_H_
#define TSC_HANDOFF_SERVER_CLOCK_CHRONY_REPLY_H_

#include <cstdint>
#include <string>

namespace tsc_handoff::clock {

// The defaults are those of a host that follows 192.0.2.1; its bound is 1.5 ms.
struct ChronyReply {
  uint8_t version = 6;
  uint16_t status = 0;
  uint32_t reference_id = 0xc0000201;
  uint16_t stratum = 3;
  uint16_t leap_status = 0;
  uint64_t reference_s = 1'700'000'000;
  uint32_t reference_nanoseconds = 250'000'000;
  double correction_s = -0.000'25;
  double frequency_ppm = -12.5;
  double root_delay_s = 0.001;
  double root_dispersion_s = 0.000'75;
  double update_interval_s = 64;

  // The datagram that answers the request of that number. Without a body when status is not 0.
  std::string Bytes(uint32_t sequence) const;
};

// The number of a request.
uint32_t SequenceOf(const std::string& request);

// A number as chronyd sends it.
uint32_t ChronyFloat(double value);

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_REPLY_H_
