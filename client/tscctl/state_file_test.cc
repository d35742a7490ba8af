#include "client/tscctl/state_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "client/lib/rpc_error.h"
#include "client/lib/testing/seal_state.h"
#include "client/tscctl/whole_file.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::HasSubstr;

class StateFileTest : public ::testing::Test {
 protected:
  StateFileTest() {
    std::string pattern = testing::TempDir() + "/state_file.XXXXXX";
    directory_ = mkdtemp(pattern.data());
    path_ = directory_ + "/vm1.tsc";
    v1::TscStatePayload payload;
    payload.set_vm_id("vm1");
    payload.set_guest_tsc_khz(1);
    payload.set_vcpu_count(1);
    payload.add_guest_tsc_ticks(42);
    state_ = client::SealState(payload);
  }
  ~StateFileTest() override { std::filesystem::remove_all(directory_); }

  void WriteBytes(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  int FilesInDirectory() const {
    const std::filesystem::directory_iterator files(directory_);
    return static_cast<int>(std::distance(begin(files), end(files)));
  }

  std::string directory_;
  std::string path_;
  v1::TscState state_;
};

TEST_F(StateFileTest, ComesBackAsItWas) {
  ASSERT_TRUE(WriteStateFile(path_, state_, false).ok());
  const absl::StatusOr<v1::TscState> read = ReadStateFile(path_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->SerializeAsString(), state_.SerializeAsString());
}

TEST_F(StateFileTest, IsForItsOwnerOnly) {
  const mode_t before = umask(0);
  ASSERT_TRUE(WriteStateFile(path_, state_, false).ok());
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(StateFileTest, NeverReplacesUnlessAsked) {
  WriteBytes("precious");
  EXPECT_TRUE(absl::IsAlreadyExists(CheckFree(path_)));
  EXPECT_TRUE(absl::IsAlreadyExists(WriteStateFile(path_, state_, false)));
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
  EXPECT_EQ(FilesInDirectory(), 1);
  EXPECT_TRUE(WriteStateFile(path_, state_, true).ok());
  EXPECT_TRUE(ReadStateFile(path_).ok());
  EXPECT_EQ(FilesInDirectory(), 1);
}

TEST_F(StateFileTest, DanglingLinkIsNotFollowed) {
  std::filesystem::create_symlink(directory_ + "/elsewhere", path_);
  EXPECT_TRUE(absl::IsAlreadyExists(CheckFree(path_)));
  EXPECT_TRUE(absl::IsAlreadyExists(WriteStateFile(path_, state_, false)));
}

TEST_F(StateFileTest, MissingDirectoryIsNamed) {
  const std::string path = directory_ + "/no/vm1.tsc";
  EXPECT_THAT(std::string(WriteStateFile(path, state_, false).message()), HasSubstr(path));
  EXPECT_THAT(std::string(ReadStateFile(path).status().message()),
              HasSubstr("cannot open " + path));
}

TEST_F(StateFileTest, WhatIsNoStateIsRefused) {
  for (const std::string& bytes :
       {std::string(), std::string("hello world\n"), std::string(400'000, 'x')}) {
    WriteBytes(bytes);
    const absl::Status status = ReadStateFile(path_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << bytes.size();
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  }
  EXPECT_FALSE(ReadStateFile(directory_).ok());
}

TEST_F(StateFileTest, EveryFlippedByteAndEveryCutIsRefused) {
  const std::string good = state_.SerializeAsString();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    WriteBytes(bad);
    const absl::StatusOr<v1::TscState> read = ReadStateFile(path_);
    // A changed version is left to the agent, which refuses what it does not know.
    EXPECT_TRUE(!read.ok() || read->format_version() != 1) << "byte " << i;
    WriteBytes(good.substr(0, i));
    EXPECT_FALSE(ReadStateFile(path_).ok()) << "cut at " << i;
  }
}

TEST_F(StateFileTest, NewerVersionIsLeftToTheAgent) {
  ASSERT_TRUE(WriteStateFile(path_, client::SealState(v1::TscStatePayload(), 2), false).code() ==
              absl::StatusCode::kOk);
  EXPECT_FALSE(ReadStateFile(path_).ok());  // No payload.
  v1::TscStatePayload payload;
  payload.set_vm_id("x");
  ASSERT_TRUE(WriteStateFile(path_, client::SealState(payload, 2), true).ok());
  EXPECT_TRUE(ReadStateFile(path_).ok());
}

}  // namespace
}  // namespace tsc_handoff::tscctl
