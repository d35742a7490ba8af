// FakeChronyd: answers on a socket where chronyd would, as a test says.
//
// Threading: a thread of its own calls the script. The methods may be called from any thread, but
// not by the script.
#ifndef TSC_HANDOFF_SERVER_CLOCK_FAKE_CHRONYD_H_
#define TSC_HANDOFF_SERVER_CLOCK_FAKE_CHRONYD_H_

#include <sys/stat.h>

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff::clock {

class FakeChronyd {
 public:
  // The datagrams that answer a request, in this order.
  using Script = std::function<std::vector<std::string>(const std::string& request)>;

  // `address` is 127.0.0.1:PORT, where 0 takes any free port, or the path of a Unix socket.
  explicit FakeChronyd(Script script, const std::string& address = "127.0.0.1:0");
  ~FakeChronyd();
  FakeChronyd(const FakeChronyd&) = delete;
  FakeChronyd& operator=(const FakeChronyd&) = delete;

  // With the real port.
  const std::string& address() const { return address_; }

  // From the next request on.
  void SetScript(Script script);

  struct Client {
    std::string path;  // of its Unix socket
    mode_t mode = 0;   // of that path when it asked
  };
  std::vector<Client> clients();  // one for each request

 private:
  void BindUdp(const std::string& address);
  void BindUnix(const std::string& path);
  void Serve();
  void AnswerOne();

  std::string address_;
  UniqueFd socket_;
  UniqueFd stop_;  // an eventfd
  std::mutex mutex_;
  Script script_;                // guarded by mutex_
  std::vector<Client> clients_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_FAKE_CHRONYD_H_
