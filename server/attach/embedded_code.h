// The machine code that is copied into a VMM, as the build made it of stub.S, payload.c and
// tsc_kvm.c.
//
// Threading: constants.
#ifndef TSC_HANDOFF_SERVER_ATTACH_EMBEDDED_CODE_H_
#define TSC_HANDOFF_SERVER_ATTACH_EMBEDDED_CODE_H_

#include "absl/types/span.h"

namespace tsc_handoff::attach {

// Begins with a StubHeader (stub_layout.h), whose fields after the offsets are zero.
absl::Span<const unsigned char> Stub();

// Its first byte is its entry: void (*)(attach_job*) in the C calling convention. Runs at any
// address.
absl::Span<const unsigned char> Payload();

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_EMBEDDED_CODE_H_
