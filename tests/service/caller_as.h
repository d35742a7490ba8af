// Calls and connections of other users of this host, as the kernel sees them: a thread takes their
// ids for the moment of connecting, which is what SO_PEERCRED keeps. Needs root.
//
// Threading: ConnectAs may be called from any thread; a CallerAs from one at a time.
#ifndef TSC_HANDOFF_TESTS_SERVICE_CALLER_AS_H_
#define TSC_HANDOFF_TESTS_SERVICE_CALLER_AS_H_

#include <grpcpp/grpcpp.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff {

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups = {};
};

// Whether this process may be any other user; a test skips otherwise, and says so.
bool MayBeOthers();
inline constexpr char kNeedsRoot[] =
    "to connect as another user takes root, and a user namespace in which there are others";

// A connected socket of `type`; an invalid one when nobody listens or the file mode forbids it.
UniqueFd ConnectAs(const User& user, const std::string& path, int type = SOCK_STREAM);

class CallerAs {
 public:
  // By the Unix socket at `path`.
  CallerAs(const User& user, const std::string& path);
  // By TCP.
  explicit CallerAs(const std::string& address);

  // Calls `method` ("/tschandoff.v1.TscAgent/GetVm") with a serialised request, and returns the
  // answer or the first of a stream, which it then ends. Errors carry the agent's details.
  absl::StatusOr<std::string> Call(const std::string& method, const std::string& request) const;

  // The same for messages of the agent's API.
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(const std::string& method, const Request& request) const {
    auto answer = Call("/tschandoff.v1.TscAgent/" + method, request.SerializeAsString());
    if (!answer.ok()) return answer.status();
    Response response;
    if (!response.ParseFromString(*answer)) return absl::DataLossError("the answer is none");
    return response;
  }

  std::shared_ptr<grpc::Channel> channel() const { return channel_; }

 private:
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_CALLER_AS_H_
