// Failpoints: named places at which a test stops this process as a crash would.
//
// The delivered programs have the names and nothing that acts on them. A test's program links
// //server/base:failpoint_on, which reads TSC_HANDOFF_FAILPOINT from the environment:
//   capture.journaled        kill -9 of this process when it first comes there
//   capture.journaled:3      the third time
//
// Threading: from any thread.
#ifndef TSC_HANDOFF_SERVER_BASE_FAILPOINT_H_
#define TSC_HANDOFF_SERVER_BASE_FAILPOINT_H_

// Weak: null in a program that does not link failpoint_on.
extern "C" __attribute__((weak)) void tsc_handoff_failpoint(const char* name);

namespace tsc_handoff {

inline void Failpoint(const char* name) {
  if (tsc_handoff_failpoint != nullptr) tsc_handoff_failpoint(name);
}

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_FAILPOINT_H_
