// The release that everything in this tree belongs to.
#ifndef TSC_HANDOFF_SERVER_BASE_VERSION_H_
#define TSC_HANDOFF_SERVER_BASE_VERSION_H_

namespace tsc_handoff {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_VERSION_H_
