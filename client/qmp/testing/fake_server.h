// A monitor's socket whose other end says what a test wants: one connection, answers by the order
// of the commands that come. In answers, $id is the id of the command and $previous the one before.
//
// Threading: a thread of its own serves; methods are for one thread.
#ifndef TSC_HANDOFF_CLIENT_QMP_TESTING_FAKE_SERVER_H_
#define TSC_HANDOFF_CLIENT_QMP_TESTING_FAKE_SERVER_H_

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "server/base/unique_fd.h"

namespace tsc_handoff::qmp {

class FakeServer {
 public:
  FakeServer();
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  // "unix:/tmp/..."
  std::string address() const { return "unix:" + path_; }

  // Sent as soon as somebody is connected, or at once.
  void Say(const std::string& text);
  // The next command must be this one, and is answered so; not at all with an empty text.
  void Expect(const std::string& command, const std::string& answer);
  // After the next command, which must be this one, the connection is closed.
  void HangUpAfter(const std::string& command);

  // The last command as it came.
  std::string LastRequest();

 private:
  struct Turn {
    std::string command;  // empty: none is waited for
    std::string text;
    bool hang_up = false;
  };

  void Add(Turn turn);
  void Serve();
  // Blocks until there is one; false at the end.
  bool NextTurn(Turn* turn);
  // False when the client or this server has gone.
  bool ReadCommand(int fd, const Turn& turn, std::string* text);

  std::string directory_;
  std::string path_;
  UniqueFd listener_;
  UniqueFd wake_;  // readable when the server is to end
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::deque<Turn> turns_;
  bool ended_ = false;
  std::string last_request_;
  // Of the serving thread.
  std::string received_;
  std::string last_id_ = "0";
  std::thread thread_;
};

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_TESTING_FAKE_SERVER_H_
