// The version of the client library and of tscctl.
//
// Threading: a constant.
#ifndef TSC_HANDOFF_CLIENT_LIB_VERSION_H_
#define TSC_HANDOFF_CLIENT_LIB_VERSION_H_

namespace tsc_handoff::client {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_VERSION_H_
