#include "server/auth/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace tsc_handoff::auth {
namespace {

using nlohmann::json;
using testing::HasSubstr;

AuditEvent SomeEvent() {
  AuditEvent event;
  event.who.kind = Identity::Kind::kUnix;
  event.who.uid = 1000;
  event.who.pid = 4711;
  event.method = "SetTscState";
  event.vm_id = "db-7";
  event.handoff_id = "h-1";
  event.epoch = 3;
  event.state_sha256 = std::string(64, 'a');
  event.took = absl::Microseconds(1500);
  return event;
}

class AuditTest : public testing::Test {
 protected:
  ~AuditTest() override { std::filesystem::remove_all(directory_); }

  static std::vector<std::string> LinesOf(const std::string& path) {
    std::ifstream file(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  static std::string MakeDirectory() {
    char directory[] = "/tmp/audit-XXXXXX";
    return mkdtemp(directory);
  }

  const std::string directory_ = MakeDirectory();
  const std::string path_ = directory_ + "/audit.log";
  int write_errors_ = 0;
  Audit audit_{path_, [this] { ++write_errors_; }};
};

TEST_F(AuditTest, EachEventIsALineOfJsonThatOnlyTheOwnerMayRead) {
  ASSERT_TRUE(audit_.Open().ok());
  audit_.Write(SomeEvent());
  AuditEvent refused = SomeEvent();
  refused.reason = "NOT_AUTHORIZED";
  refused.why = "a \"quoted\" why\nand a second line";
  refused.handoff_id.clear();
  refused.epoch = 0;
  audit_.Write(refused, true);
  const auto lines = LinesOf(path_);
  ASSERT_EQ(lines.size(), 2u);
  const json first = json::parse(lines[0]);
  EXPECT_EQ(first["event"], "audit");
  EXPECT_EQ(first["who"], "uid 1000");
  EXPECT_EQ(first["from"], "pid 4711");
  EXPECT_EQ(first["rpc"], "SetTscState");
  EXPECT_EQ(first["vm"], "db-7");
  EXPECT_EQ(first["handoff"], "h-1");
  EXPECT_EQ(first["epoch"], 3);
  EXPECT_EQ(first["state_sha256"], std::string(64, 'a'));
  EXPECT_EQ(first["result"], "ok");
  EXPECT_EQ(first["took_us"], 1500);
  EXPECT_TRUE(first["time"].is_string());
  const json second = json::parse(lines[1]);
  EXPECT_EQ(second["result"], "NOT_AUTHORIZED");
  EXPECT_EQ(second["why"], refused.why);
  EXPECT_FALSE(second.contains("handoff"));
  EXPECT_FALSE(second.contains("epoch"));
  struct stat about = {};
  ASSERT_EQ(stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600u);
}

TEST_F(AuditTest, AppendsToWhatIsThereAndGoesOnInANewFileAfterARotation) {
  std::ofstream(path_) << "before\n";
  ASSERT_TRUE(audit_.Open().ok());
  audit_.Write(SomeEvent());
  EXPECT_EQ(LinesOf(path_).size(), 2u);
  std::filesystem::rename(path_, path_ + ".1");
  audit_.Write(SomeEvent());
  EXPECT_EQ(LinesOf(path_ + ".1").size(), 3u) << "until it is told";
  ASSERT_TRUE(audit_.Open().ok());
  audit_.Write(SomeEvent());
  EXPECT_EQ(LinesOf(path_).size(), 1u);
  EXPECT_EQ(LinesOf(path_ + ".1").size(), 3u);
}

TEST_F(AuditTest, WhatIsNoFileOfOursIsRefusedAndTheOldOneStays) {
  ASSERT_TRUE(audit_.Open().ok());
  std::filesystem::remove(path_);
  std::filesystem::create_symlink("/tmp/somewhere-else", path_);
  EXPECT_THAT(std::string(audit_.Open().message()), HasSubstr(path_));
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_FALSE(audit_.Open().ok());
  audit_.Write(SomeEvent());
  EXPECT_EQ(write_errors_, 0);
  Audit nowhere(directory_ + "/no/such/audit.log", nullptr);
  EXPECT_EQ(nowhere.Open().code(), absl::StatusCode::kFailedPrecondition);
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(audit_.Open().ok()) << "and it does not wait for a reader";
}

TEST_F(AuditTest, ALineThatTheFileDoesNotTakeIsCountedAndSpoilsNoOther) {
  // In a process of its own: the limit is on every file that it writes.
  ASSERT_TRUE(audit_.Open().ok());
  audit_.Write(SomeEvent());
  const auto size = std::filesystem::file_size(path_);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    rlimit limit = {size + 10, size + 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    audit_.Write(SomeEvent());  // cut off
    audit_.Write(SomeEvent());  // not at all
    const int errors = write_errors_;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    audit_.Write(SomeEvent());
    _exit(errors == 2 && write_errors_ == 2 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const auto lines = LinesOf(path_);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(json::accept(lines[0]));
  EXPECT_FALSE(json::accept(lines[1])) << "what was cut off";
  EXPECT_TRUE(json::accept(lines[2]));
}

TEST_F(AuditTest, ManyRefusalsAtTheDoorAreNotAllWrittenAndThatIsSaid) {
  ASSERT_TRUE(audit_.Open().ok());
  for (int i = 0; i < 1000; ++i) audit_.Write(SomeEvent(), true);
  const size_t refusals = LinesOf(path_).size();
  EXPECT_GE(refusals, 200u);
  EXPECT_LT(refusals, 1000u);
  for (int i = 0; i < 300; ++i) audit_.Write(SomeEvent());
  EXPECT_EQ(LinesOf(path_).size(), refusals + 300) << "what was done is written always";
}

}  // namespace
}  // namespace tsc_handoff::auth
