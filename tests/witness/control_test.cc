#include "tests/witness/control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "absl/status/status.h"

namespace tsc_handoff::witness {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A server in a thread of its own that answers with what it was sent.
class ControlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = std::string(directory_) + "/control";
    auto server = ControlServer::Listen(path_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    thread_ = std::thread([this] {
      while (!stop_) {
        std::vector<pollfd> fds;
        server_->AddPollFds(&fds);
        poll(fds.data(), fds.size(), 10);
        server_->Serve(fds, [](const json& request) {
          return json{{"ok", request.is_object()},
                      {"echo", request.is_discarded() ? json() : request}};
        });
      }
    });
  }

  void TearDown() override {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    server_.reset();
    rmdir(directory_);
  }

  json Ask(const std::string& request) {
    auto reply = SendRequest(path_, request, 10'000);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return json::parse(reply.value_or("null"));
  }

  char directory_[20] = "/tmp/control.XXXXXX";
  std::string path_;
  std::unique_ptr<ControlServer> server_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST_F(ControlTest, AnswersOneLineWithOneLine) {
  EXPECT_EQ(Ask(R"({"cmd":"status"})"), json::parse(R"({"ok":true,"echo":{"cmd":"status"}})"));
  EXPECT_EQ(Ask("not json")["ok"], false);
}

TEST_F(ControlTest, KeepsTicksOf64BitsExact) {
  const json reply = Ask(R"({"ticks":18446744073709551615})");
  EXPECT_EQ(reply["echo"]["ticks"].get<uint64_t>(), ~uint64_t{0});
}

TEST_F(ControlTest, AnEndlessLineIsRefusedAndOthersAreStillServed) {
  auto reply = SendRequest(path_, std::string(1 << 20, 'x'), 10'000);
  if (reply.ok()) {
    EXPECT_THAT(*reply, HasSubstr("64 KiB"));
  }
  EXPECT_EQ(Ask("{}")["ok"], true);
}

TEST_F(ControlTest, OnlyOneServerAtAPath) {
  auto second = ControlServer::Listen(path_);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
}

TEST_F(ControlTest, OnlyTheOwnerMayConnect) {
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(ControlServerTest, ReplacesASocketThatNobodyListensAt) {
  char directory[] = "/tmp/control.XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/stale";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(stale);
  EXPECT_TRUE(ControlServer::Listen(path).ok());
  EXPECT_NE(access(path.c_str(), F_OK), 0) << "the destructor removes it";
  rmdir(directory);
}

TEST(ControlServerTest, KeepsAFileThatIsNoSocket) {
  char path[] = "/tmp/control.XXXXXX";
  close(mkstemp(path));
  EXPECT_FALSE(ControlServer::Listen(path).ok());
  EXPECT_EQ(access(path, F_OK), 0);
  unlink(path);
}

TEST(SendRequestTest, NobodyThereIsUnavailable) {
  auto reply = SendRequest("/nonexistent/control", "{}", 1000);
  EXPECT_TRUE(absl::IsUnavailable(reply.status())) << reply.status();
  EXPECT_FALSE(SendRequest(std::string(200, 'x'), "{}", 1000).ok());
}

}  // namespace
}  // namespace tsc_handoff::witness
