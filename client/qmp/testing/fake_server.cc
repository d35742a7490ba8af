#include "client/qmp/testing/fake_server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_replace.h"

namespace tsc_handoff::qmp {
namespace {

// Whether `fd` can be read before the server is to end.
bool WaitReadable(int fd, int wake) {
  pollfd polled[] = {{.fd = fd, .events = POLLIN, .revents = 0},
                     {.fd = wake, .events = POLLIN, .revents = 0}};
  return poll(polled, 2, -1) > 0 && polled[1].revents == 0;
}

void SendAll(int fd, const std::string& text) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t got = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (got <= 0) return;  // the client does not want the rest
    sent += static_cast<size_t>(got);
  }
}

}  // namespace

FakeServer::FakeServer() {
  char directory[] = "/tmp/qmp-XXXXXX";
  directory_ = mkdtemp(directory);
  path_ = directory_ + "/monitor";
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(listener_.get(), 1), 0);
  thread_ = std::thread([this] { Serve(); });
}

FakeServer::~FakeServer() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  eventfd_write(wake_.get(), 1);
  thread_.join();
  std::filesystem::remove_all(directory_);
}

void FakeServer::Say(const std::string& text) { Add({"", text}); }

void FakeServer::Expect(const std::string& command, const std::string& answer) {
  Add({command, answer});
}

void FakeServer::HangUpAfter(const std::string& command) { Add({command, "", true}); }

std::string FakeServer::LastRequest() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_request_;
}

void FakeServer::Add(Turn turn) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    turns_.push_back(std::move(turn));
  }
  changed_.notify_all();
}

bool FakeServer::NextTurn(Turn* turn) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return ended_ || !turns_.empty(); });
  if (ended_) return false;
  *turn = std::move(turns_.front());
  turns_.pop_front();
  return true;
}

bool FakeServer::ReadCommand(int fd, const Turn& turn, std::string* text) {
  size_t end;
  while ((end = received_.find('\n')) == std::string::npos) {
    if (!WaitReadable(fd, wake_.get())) return false;
    char buffer[4096];
    const ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    received_.append(buffer, static_cast<size_t>(got));
  }
  const std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  const auto request = nlohmann::json::parse(line, nullptr, false);
  EXPECT_TRUE(request.is_object()) << line;
  if (!request.is_object()) return false;
  EXPECT_EQ(request.value("execute", ""), turn.command);
  const std::string id = request.contains("id") ? request["id"].dump() : "null";
  *text = absl::StrReplaceAll(turn.text, {{"$id", id}, {"$previous", last_id_}});
  last_id_ = id;
  const std::lock_guard<std::mutex> lock(mutex_);
  last_request_ = line;
  return true;
}

void FakeServer::Serve() {
  if (!WaitReadable(listener_.get(), wake_.get())) return;
  const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Turn turn;
  while (NextTurn(&turn)) {
    std::string text = turn.text;
    if (!turn.command.empty() && !ReadCommand(client.get(), turn, &text)) return;
    if (turn.hang_up) return;
    if (!text.empty()) SendAll(client.get(), text + "\n");
  }
}

}  // namespace tsc_handoff::qmp
