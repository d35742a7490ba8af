#include "server/handoff/saved_tscs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tsc_handoff::handoff {
namespace {

// Changes whenever tsc_vcpu_state or tsc_kvmclock do.
constexpr uint32_t kFormat = 1;
static_assert(sizeof(tsc_vcpu_state) == 32 && sizeof(tsc_kvmclock) == 48);

struct Header {
  uint32_t format = kFormat;
  uint32_t vcpu_count = 0;
  tsc_kvmclock kvmclock = {};
};

}  // namespace

bool SameOffsets(const std::vector<tsc_vcpu_state>& a, const std::vector<tsc_vcpu_state>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const tsc_vcpu_state& one, const tsc_vcpu_state& other) {
                      return one.vcpu_id == other.vcpu_id &&
                             one.tsc_offset_ticks == other.tsc_offset_ticks;
                    });
}

std::string Serialise(const SavedTscs& saved) {
  Header header;
  header.vcpu_count = static_cast<uint32_t>(saved.vcpus.size());
  header.kvmclock = saved.kvmclock;
  const size_t vcpu_bytes = saved.vcpus.size() * sizeof(tsc_vcpu_state);
  std::string bytes(sizeof(header) + vcpu_bytes, '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (vcpu_bytes > 0) std::memcpy(bytes.data() + sizeof(header), saved.vcpus.data(), vcpu_bytes);
  return bytes;
}

std::optional<SavedTscs> ParseSavedTscs(const std::string& bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const size_t vcpu_bytes = bytes.size() - sizeof(header);
  if (header.format != kFormat || header.vcpu_count < 1 ||
      vcpu_bytes != size_t{header.vcpu_count} * sizeof(tsc_vcpu_state))
    return std::nullopt;
  SavedTscs saved;
  saved.kvmclock = header.kvmclock;
  saved.vcpus.resize(header.vcpu_count);
  std::memcpy(saved.vcpus.data(), bytes.data() + sizeof(header), vcpu_bytes);
  return saved;
}

}  // namespace tsc_handoff::handoff
