#include "server/clock/chrony_reply.h"

#include <cmath>

namespace tsc_handoff::clock {
namespace {

// Appends big-endian integers.
class Writer {
 public:
  Writer& Put(uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; --i) out_.push_back(static_cast<char>(value >> (8 * i)));
    return *this;
  }
  Writer& PutFloat(double value) { return Put(ChronyFloat(value), 4); }
  const std::string& bytes() const { return out_; }

 private:
  std::string out_;
};

}  // namespace

std::string ChronyReply::Bytes(uint32_t sequence) const {
  Writer out;
  out.Put(version, 1).Put(2, 1).Put(0, 2);     // version, packet type, reserved
  out.Put(33, 2).Put(status == 0 ? 5 : 1, 2);  // command, which reply
  out.Put(status, 2).Put(0, 6);                // status, padding
  out.Put(sequence, 4).Put(0, 8);              // sequence, padding
  if (status != 0) return out.bytes();
  out.Put(reference_id, 4);
  out.Put(reference_id, 4).Put(0, 4).Put(0, 8);  // its address, in room for IPv6
  out.Put(1, 2).Put(0, 2);                       // that it is IPv4, padding
  out.Put(stratum, 2).Put(leap_status, 2);
  out.Put(reference_s, 8).Put(reference_nanoseconds, 4);
  out.PutFloat(correction_s);
  out.PutFloat(3e-6).PutFloat(4e-6);  // last offset, RMS offset
  out.PutFloat(frequency_ppm);
  out.PutFloat(0.001).PutFloat(0.02);  // residual frequency, skew
  out.PutFloat(root_delay_s).PutFloat(root_dispersion_s).PutFloat(update_interval_s);
  return out.bytes();
}

uint32_t SequenceOf(const std::string& request) {
  uint32_t sequence = 0;
  for (size_t i = 8; i < 12 && i < request.size(); ++i)
    sequence = sequence << 8 | static_cast<unsigned char>(request[i]);
  return sequence;
}

uint32_t ChronyFloat(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);  // 0.5 <= |fraction| < 1
  auto coefficient = static_cast<int32_t>(std::lround(std::ldexp(fraction, 24)));
  exponent += 1;
  if (coefficient >= 1 << 24) {
    coefficient /= 2;
    exponent += 1;
  }
  return static_cast<uint32_t>(exponent) << 25 |
         (static_cast<uint32_t>(coefficient) & ((1u << 25) - 1));
}

}  // namespace tsc_handoff::clock
