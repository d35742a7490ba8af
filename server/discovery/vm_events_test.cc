// On a directory that stands for debugfs's, and real processes.
#include "server/discovery/vm_events.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "server/discovery/kvm_processes.h"

namespace tsc_handoff::discovery {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kPatience(20'000);
constexpr std::chrono::milliseconds kNow(0);

class VmEventsTest : public testing::Test {
 protected:
  VmEventsTest() {
    char name[] = "/tmp/vm_events_XXXXXX";
    directory_ = fs::path(mkdtemp(name)) / "kvm";
  }
  ~VmEventsTest() override { fs::remove_all(directory_.parent_path()); }

  fs::path directory_;
};

// A process that waits to be killed.
class Sleeper {
 public:
  Sleeper() : pid_(fork()) {
    if (pid_ == 0) {
      pause();
      _exit(0);
    }
  }
  ~Sleeper() { End(); }
  ProcessId id() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::stringstream text;
    text << file.rdbuf();
    return {pid_, ParseStartTime(text.str()).value_or(0)};
  }
  void End() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_;
};

TEST_F(VmEventsTest, TellsThatADirectoryCameOrWent) {
  fs::create_directory(directory_);
  VmEvents events("/proc", directory_);
  EXPECT_TRUE(events.TellsOfStarts());
  EXPECT_FALSE(events.Wait(kNow));
  fs::create_directory(directory_ / "70-10");
  EXPECT_TRUE(events.Wait(kPatience));
  EXPECT_FALSE(events.Wait(kNow));
  fs::remove(directory_ / "70-10");
  EXPECT_TRUE(events.Wait(kPatience));
}

TEST_F(VmEventsTest, TellsOfEachVcpuAndOfNothingElse) {
  fs::create_directories(directory_ / "60-9");
  VmEvents events("/proc", directory_);
  fs::create_directory(directory_ / "60-9/vcpu0");
  EXPECT_TRUE(events.Wait(kPatience)) << "of a VM that was there before";
  fs::create_directory(directory_ / "70-10");
  EXPECT_TRUE(events.Wait(kPatience));
  std::ofstream(directory_ / "70-10/exits") << "1";
  EXPECT_FALSE(events.Wait(kNow)) << "a file";
  fs::create_directory(directory_ / "70-10/vcpu0");
  EXPECT_TRUE(events.Wait(kPatience));
  EXPECT_FALSE(events.Wait(kNow));
}

TEST_F(VmEventsTest, WatchesADirectoryThatComesLaterAndComesAgain) {
  VmEvents events("/proc", directory_);
  EXPECT_FALSE(events.TellsOfStarts());
  for (int i = 0; i < 2; ++i) {
    fs::create_directory(directory_);
    EXPECT_FALSE(events.Wait(kNow));
    EXPECT_TRUE(events.TellsOfStarts());
    fs::create_directory(directory_ / "70-10");
    EXPECT_TRUE(events.Wait(kPatience));
    fs::remove_all(directory_);
    while (events.Wait(kNow)) continue;
    EXPECT_FALSE(events.TellsOfStarts());
  }
}

TEST_F(VmEventsTest, TellsTheEndOfAProcessOnce) {
  VmEvents events("/proc", directory_);
  Sleeper sleeper;
  Sleeper other;
  events.WatchEndsOf({sleeper.id(), other.id()});
  EXPECT_FALSE(events.Wait(kNow));
  sleeper.End();
  EXPECT_TRUE(events.Wait(kPatience));
  EXPECT_FALSE(events.Wait(kNow));
}

TEST_F(VmEventsTest, TellsOfAProcessThatHadEndedBefore) {
  VmEvents events("/proc", directory_);
  Sleeper sleeper;
  const ProcessId id = sleeper.id();
  events.WatchEndsOf({{id.pid, id.start_time_ticks + 1}});
  EXPECT_TRUE(events.Wait(kNow)) << "its number is another's";
  sleeper.End();
  events.WatchEndsOf({id});
  EXPECT_TRUE(events.Wait(kNow));
  EXPECT_FALSE(events.Wait(kNow));
}

TEST_F(VmEventsTest, WhatIsNotWatchedAnyMoreIsNotTold) {
  VmEvents events("/proc", directory_);
  Sleeper sleeper;
  events.WatchEndsOf({sleeper.id()});
  events.WatchEndsOf({});
  sleeper.End();
  EXPECT_FALSE(events.Wait(kNow));
}

TEST_F(VmEventsTest, CanBeWoken) {
  VmEvents events("/proc", directory_);
  events.Wake();
  EXPECT_TRUE(events.Wait(kPatience));
  EXPECT_FALSE(events.Wait(kNow));
}

}  // namespace
}  // namespace tsc_handoff::discovery
