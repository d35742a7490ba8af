// What a QEMU monitor says: the client gets answers, events and errors out of any stream, and never
// waits longer than it was told to.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "client/qmp/qmp_client.h"
#include "server/base/unique_fd.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

constexpr absl::Duration kTimeout = absl::Milliseconds(200);

// A monitor that says one thing to each client, whatever that asks.
class Monitor {
 public:
  Monitor() : path_("/tmp/tsc-fuzz-qmp-" + std::to_string(getpid())) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    unlink(path_.c_str());
    listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    FUZZ_CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    FUZZ_CHECK(listen(listener_.get(), 4) == 0);
    static std::string gone;
    gone = path_;
    std::atexit([] { unlink(gone.c_str()); });
  }

  const std::string& path() const { return path_; }

  void Serve(const std::string& words) {
    const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    size_t said = 0;
    while (said < words.size()) {
      const ssize_t sent =
          send(client.get(), words.data() + said, words.size() - said, MSG_NOSIGNAL);
      if (sent <= 0) return;
      said += static_cast<size_t>(sent);
    }
    shutdown(client.get(), SHUT_WR);
    char buffer[4096];
    while (recv(client.get(), buffer, sizeof(buffer), 0) > 0) {
    }
  }

 private:
  const std::string path_;
  UniqueFd listener_;
};

}  // namespace

std::vector<std::string> Seeds() {
  const std::string greeting =
      R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}})"
      "\r\n";
  const std::string ready = R"({"return": {}, "id": 1})"
                            "\r\n";
  return {
      greeting + ready +
          R"({"return": {"status": "running", "running": true}, "id": 2})"
          "\r\n",
      greeting + ready +
          R"({"timestamp": {"seconds": 7, "microseconds": 9}, "event": "STOP"})"
          "\r\n"
          R"({"error": {"class": "GenericError", "desc": "no"}, "id": 2})"
          "\r\n",
      greeting + R"({"error": {"class": "CommandNotFound", "desc": "no"}, "id": 1})"
                 "\r\n",
      greeting + ready +
          R"({"event": "MIGRATION", "data": {"status": "active"}, "timestamp": {"seconds": -1}})"
          "\n"
          R"({"return": 7, "id": 2})"
          "\n"
          R"({"return": [], "id": "2"})"
          "\n",
      "{\"QMP\": 7}\n",
      "[1,2\n"};
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  static Monitor monitor;
  const std::string words(reinterpret_cast<const char*>(data), size);
  std::thread server([&] { monitor.Serve(words); });
  qmp::QmpAddress address;
  address.unix_path = monitor.path();
  {
    auto client = qmp::QmpClient::Connect(address, kTimeout);
    if (client.ok()) {
      (void)(*client)->Execute("query-status", nlohmann::json::object());
      for (int i = 0; i < 4; ++i) {
        const auto event = (*client)->NextEvent(absl::ZeroDuration());
        if (!event.ok()) break;
        FUZZ_CHECK(!event->has_value() || !(*event)->name.empty());
      }
      (void)(*client)->Execute("query-migrate", nlohmann::json::object());
    }
  }
  server.join();
  return 0;
}
