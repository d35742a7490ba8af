// Bytes: an input cut into values. An input that is used up gives zeros and empty strings.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_FUZZ_BYTES_H_
#define TSC_HANDOFF_TESTS_FUZZ_BYTES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace tsc_handoff::fuzz {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T Take() {
    T value = {};
    const size_t size = std::min(sizeof(value), left_);
    if (size > 0) std::memcpy(&value, data_, size);
    Skip(size);
    return value;
  }

  std::string TakeString(size_t size) {
    size = std::min(size, left_);
    std::string out(reinterpret_cast<const char*>(data_), size);
    Skip(size);
    return out;
  }

  // A string that says its own length, in two bytes.
  std::string TakeSized() { return TakeString(Take<uint16_t>()); }

  std::string TakeRest() { return TakeString(left_); }

 private:
  void Skip(size_t size) {
    data_ += size;
    left_ -= size;
  }

  const uint8_t* data_;
  size_t left_;
};

// What Bytes::TakeSized reads.
inline std::string Sized(const std::string& text) {
  const auto size = static_cast<uint16_t>(text.size());
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + text;
}

}  // namespace tsc_handoff::fuzz

#endif  // TSC_HANDOFF_TESTS_FUZZ_BYTES_H_
