// What every HTTP/2 connection begins with, looked for without taking it.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_SERVER_AUTH_HTTP2_PREFACE_H_
#define TSC_HANDOFF_SERVER_AUTH_HTTP2_PREFACE_H_

#include "absl/strings/string_view.h"

namespace tsc_handoff::auth {

// RFC 9113, 3.4.
inline constexpr absl::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum class Beginning {
  kHttp2,
  kNotYet,    // so far it could be
  kNotHttp2,  // it is something else
  kEnded,     // there will be nothing more
};

// How the bytes that a client has sent begin.
Beginning Judge(absl::string_view bytes);

// How what waits in a connected stream socket begins; it stays there. Does not block.
Beginning Peek(int socket);

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_HTTP2_PREFACE_H_
