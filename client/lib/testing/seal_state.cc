#include "client/lib/testing/seal_state.h"

#include <zlib.h>

#include <string>

namespace tsc_handoff::client {

namespace v1 = ::tschandoff::v1;

v1::TscState SealState(const v1::TscStatePayload& payload, uint32_t format_version) {
  v1::TscState state;
  state.set_format_version(format_version);
  state.set_payload(payload.SerializeAsString());
  std::string checked;
  for (int shift = 0; shift < 32; shift += 8)
    checked.push_back(static_cast<char>(format_version >> shift));
  checked += state.payload();
  state.set_crc32(
      static_cast<uint32_t>(crc32(0, reinterpret_cast<const unsigned char*>(checked.data()),
                                  static_cast<unsigned>(checked.size()))));
  return state;
}

}  // namespace tsc_handoff::client
