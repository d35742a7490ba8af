#include "server/agent/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff::agent {
namespace {

using ::testing::ElementsAre;

// What the manager was told, for tests that wait for it.
class Told {
 public:
  ServiceManager::Notify notify() {
    return [this](const std::string& state) {
      std::lock_guard<std::mutex> lock(mutex_);
      states_.push_back(state);
      changed_.notify_all();
    };
  }

  std::vector<std::string> states() {
    std::lock_guard<std::mutex> lock(mutex_);
    return states_;
  }

  // False when that many have not come within ten seconds.
  bool WaitFor(const std::string& state, int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] {
      return std::count(states_.begin(), states_.end(), state) >= count;
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> states_;
};

TEST(ServiceManager, SaysReadyAndStoppingWithOneLineOfStatusEach) {
  Told told;
  {
    ServiceManager manager(absl::ZeroDuration(), told.notify(),
                           [](absl::Duration) { return true; });
    manager.Ready("serving\nREADY=0");
    manager.Stopping("signal 15");
  }
  EXPECT_THAT(told.states(),
              ElementsAre("READY=1\nSTATUS=serving READY=0", "STOPPING=1\nSTATUS=signal 15"));
}

TEST(ServiceManager, AsksTheAgentBeforeEachWordToTheWatchdog) {
  Told told;
  std::atomic<int> asked{0};
  ServiceManager manager(absl::Milliseconds(30), told.notify(), [&asked](absl::Duration limit) {
    EXPECT_EQ(limit, absl::Milliseconds(10));
    ++asked;
    return true;
  });
  manager.Ready("");
  EXPECT_TRUE(told.WaitFor("WATCHDOG=1", 3));
  EXPECT_GE(asked, 3);
}

TEST(ServiceManager, SaysNothingToTheWatchdogWhileTheAgentDoesNotAnswer) {
  Told told;
  std::atomic<bool> answers{false};
  std::atomic<int> asked{0};
  std::promise<void> asked_often;
  ServiceManager manager(absl::Milliseconds(3), told.notify(), [&](absl::Duration) {
    if (++asked == 10) asked_often.set_value();
    return answers.load();
  });
  manager.Ready("");
  asked_often.get_future().wait();
  EXPECT_THAT(told.states(), ElementsAre("READY=1\nSTATUS="));
  answers = true;
  EXPECT_TRUE(told.WaitFor("WATCHDOG=1", 1));
}

TEST(ServiceManager, IsNotWatchedBeforeItIsReadyAndGoesOnWhileItStops) {
  Told told;
  {
    ServiceManager manager(absl::Milliseconds(3), told.notify(),
                           [](absl::Duration) { return true; });
    EXPECT_TRUE(told.states().empty());
    manager.Ready("");
    manager.Stopping("");
    const auto before = static_cast<int>(told.states().size());
    EXPECT_TRUE(told.WaitFor("WATCHDOG=1", before + 1));
  }
}

// The real sd_notify, with this test in systemd's place.
TEST(ServiceManager, TakesSocketAndTimeFromTheEnvironment) {
  char directory[] = "/tmp/service-manager-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/notify";
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  setenv("WATCHDOG_USEC", "30000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  const auto receive = [&socket_fd] {
    char text[256];
    const ssize_t size = recv(socket_fd.get(), text, sizeof(text), 0);
    return std::string(text, size > 0 ? static_cast<size_t>(size) : 0);
  };
  {
    const auto manager = ServiceManager::FromEnvironment([](absl::Duration) { return true; });
    manager->Ready("serving");
    EXPECT_EQ(receive(), "READY=1\nSTATUS=serving");
    EXPECT_EQ(receive(), "WATCHDOG=1");
  }
  unlink(path.c_str());
  rmdir(directory);
}

}  // namespace
}  // namespace tsc_handoff::agent
