#include "server/auth/http2_preface.h"

#include <sys/socket.h>

#include <cerrno>

namespace tsc_handoff::auth {

Beginning Judge(absl::string_view bytes) {
  const absl::string_view begun = bytes.substr(0, kHttp2Preface.size());
  if (begun != kHttp2Preface.substr(0, begun.size())) return Beginning::kNotHttp2;
  return begun.size() == kHttp2Preface.size() ? Beginning::kHttp2 : Beginning::kNotYet;
}

Beginning Peek(int socket) {
  char bytes[kHttp2Preface.size()];
  ssize_t size;
  do {
    size = recv(socket, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Beginning::kNotYet;
  if (size <= 0) return Beginning::kEnded;
  return Judge({bytes, static_cast<size_t>(size)});
}

}  // namespace tsc_handoff::auth
