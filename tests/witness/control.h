// The control socket: a Unix stream socket that takes a JSON object a line and answers with one a
// line. Server, and the client of `witness ctl`.
//
// Threading: one thread; the server's handler runs in it.
#ifndef TSC_HANDOFF_TESTS_WITNESS_CONTROL_H_
#define TSC_HANDOFF_TESTS_WITNESS_CONTROL_H_

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

struct pollfd;

namespace tsc_handoff::witness {

class ControlServer {
 public:
  using Handler = std::function<nlohmann::json(const nlohmann::json& request)>;

  // Listens at `path`, with mode 0600. A socket that nobody listens at any more is replaced;
  // ALREADY_EXISTS where somebody does.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Listen(const std::string& path);

  // Removes the socket.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Appends the descriptors to poll.
  void AddPollFds(std::vector<pollfd>* fds) const;

  // Deals with what poll found. A client that sends an endless line, or does not read its replies,
  // is dropped.
  void Serve(const std::vector<pollfd>& fds, const Handler& handler);

 private:
  ControlServer(std::string path, int fd) : path_(std::move(path)), listen_fd_(fd) {}
  void Accept();
  bool ReadFrom(int fd, const Handler& handler);

  const std::string path_;
  const int listen_fd_;
  std::map<int, std::string> clients_;  // descriptor to what has come of its next line
};

// Sends one request and returns the reply. UNAVAILABLE if nobody listens, DEADLINE_EXCEEDED without
// a reply in time.
absl::StatusOr<std::string> SendRequest(const std::string& path, const std::string& request,
                                        int timeout_ms);

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_CONTROL_H_
