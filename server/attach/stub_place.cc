#include "server/attach/stub_place.h"

#include <algorithm>

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kAlignment = 16;
// Zeros that are left alone in front of the stub: the last bytes of what is there may be zeros too.
constexpr uint64_t kMargin = 64;

std::optional<uint64_t> PlaceIn(const Mapping& mapping, size_t bytes, const MemoryReader& read) {
  const uint64_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!mapping.readable || !mapping.executable || mapping.shared) return std::nullopt;
  if (mapping.name.empty() || room + kMargin > kPage) return std::nullopt;
  std::vector<unsigned char> tail(room + kMargin);
  if (!read(mapping.end - tail.size(), tail.data(), tail.size())) return std::nullopt;
  if (!std::all_of(tail.begin(), tail.end(), [](unsigned char byte) { return byte == 0; })) {
    return std::nullopt;
  }
  return mapping.end - room;
}

}  // namespace

std::optional<uint64_t> FindStubPlace(const std::vector<Mapping>& mappings, size_t bytes,
                                      const MemoryReader& read) {
  for (bool vdso : {true, false}) {
    for (const Mapping& mapping : mappings) {
      if ((mapping.name == "[vdso]") != vdso) continue;
      if (std::optional<uint64_t> place = PlaceIn(mapping, bytes, read)) return place;
    }
  }
  return std::nullopt;
}

}  // namespace tsc_handoff::attach
