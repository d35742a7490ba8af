// SHA-256 of bytes, by OpenSSL. Pure function.
#ifndef TSC_HANDOFF_SERVER_BASE_SHA256_H_
#define TSC_HANDOFF_SERVER_BASE_SHA256_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tsc_handoff {

// 32 bytes.
std::string Sha256(absl::string_view bytes);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_SHA256_H_
