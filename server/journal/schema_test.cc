#include "server/journal/schema.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace tsc_handoff::journal {
namespace {

class MigrateTest : public testing::Test {
 protected:
  MigrateTest() {
    char path[] = "/tmp/schema-XXXXXX";
    close(mkstemp(path));
    path_ = path;
    database_ = *Database::Open(path_);
    EXPECT_TRUE(MakeSchema(*database_, std::string(16, 'i')).ok());
    auto writer = Writer::Prepare(*database_);
    EXPECT_TRUE((*writer)->Put({std::nullopt, vm_}).ok());
  }
  ~MigrateTest() override { std::filesystem::remove(path_); }

  // This program's versions, and one more.
  static std::vector<Migration> WithOneMore(Migration more) {
    std::vector<Migration> migrations = Migrations();
    migrations.push_back(std::move(more));
    return migrations;
  }

  const VmRecord vm_{"vm", 3, Standing::kOwned, "h", "i"};
  std::string path_;
  std::unique_ptr<Database> database_;
};

TEST_F(MigrateTest, BringsAnOlderFileUpAndKeepsWhatIsInIt) {
  const int version = *CheckSchema(*database_);
  EXPECT_EQ(version, static_cast<int>(Migrations().size()));
  const auto newer = WithOneMore({"ALTER TABLE vms ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",
                                  "CREATE TABLE more (x INTEGER)"});
  ASSERT_TRUE(Migrate(*database_, version, newer).ok());
  EXPECT_EQ(*database_->Ask("PRAGMA user_version"), std::to_string(version + 1));
  EXPECT_EQ(*database_->Ask("SELECT note FROM vms"), "none");
  ASSERT_EQ(ReadAll(*database_)->vms.size(), 1u);
  EXPECT_EQ(ReadAll(*database_)->vms.front(), vm_);
  EXPECT_TRUE(Migrate(*database_, version + 1, newer).ok()) << "nothing is left to do";
  EXPECT_EQ(CheckSchema(*database_).status().code(), absl::StatusCode::kFailedPrecondition)
      << "this program does not know that version";
}

// What an agent of version 1 has left, which knew of no owners.
TEST_F(MigrateTest, AFileOfVersion1IsBroughtUpAndItsVmsHaveNoOwner) {
  ASSERT_TRUE(database_->Execute("ALTER TABLE vms DROP COLUMN owner_uid").ok());
  ASSERT_TRUE(database_->Execute("PRAGMA user_version = 1").ok());
  ASSERT_EQ(*CheckSchema(*database_), 1);
  EXPECT_FALSE(ReadAll(*database_).ok());
  ASSERT_TRUE(Migrate(*database_, 1, Migrations()).ok());
  ASSERT_EQ(ReadAll(*database_)->vms.size(), 1u);
  EXPECT_EQ(ReadAll(*database_)->vms.front(), vm_);
  EXPECT_EQ(vm_.owner_uid, -1);
}

TEST_F(MigrateTest, AnOwnerIsKeptAndNotToBeForged) {
  VmRecord owned = vm_;
  owned.owner_uid = 107;
  ASSERT_TRUE((*Writer::Prepare(*database_))->Put({std::nullopt, owned}).ok());
  EXPECT_EQ(ReadAll(*database_)->vms.front(), owned);
  for (const char* forgery : {"UPDATE vms SET owner_uid = 1000", "UPDATE vms SET owner_uid = -1"}) {
    ASSERT_TRUE(database_->Execute(forgery).ok());
    EXPECT_EQ(ReadAll(*database_).status().code(), absl::StatusCode::kDataLoss) << forgery;
  }
}

TEST_F(MigrateTest, OneThatFailsChangesNothing) {
  const int version = *CheckSchema(*database_);
  const auto broken =
      WithOneMore({"CREATE TABLE more (x INTEGER)", "CREATE TABLE vms (x INTEGER)"});
  EXPECT_FALSE(Migrate(*database_, version, broken).ok());
  EXPECT_FALSE(database_->InTransaction());
  EXPECT_EQ(*CheckSchema(*database_), version);
  EXPECT_FALSE(database_->Ask("SELECT x FROM more").ok());
  EXPECT_EQ(ReadAll(*database_)->vms.front(), vm_);
  EXPECT_EQ(*ReadAgentId(*database_), std::string(16, 'i'));
}

}  // namespace
}  // namespace tsc_handoff::journal
