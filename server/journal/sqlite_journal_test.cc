#include "server/journal/sqlite_journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::journal {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

HandoffRecord RecordOf(const std::string& handoff_id, Side side, State state, uint64_t epoch = 1) {
  HandoffRecord record;
  record.side = side;
  record.state = state;
  record.vm_id = "vm-1";
  record.ticket = {handoff_id,   epoch,        std::string(16, '\1'), std::string("\0two", 4),
                   "vm-1-there", "digest one", "digest two"};
  record.release_proof = std::string("\0\xff proof", 8);
  record.abort_proof = "another";
  record.vmm_instance = "instance";
  record.request_digest = "request";
  record.answer = std::string(1000, 'a');
  record.undo = std::string("\0undo", 5);
  record.redo = "redo";
  record.restored = true;
  record.begun_at_ns = -5;
  record.changed_at_ns = 1'700'000'000'000'000'000;
  return record;
}

Change Begun(const std::string& handoff_id) {
  return {RecordOf(handoff_id, Side::kSource, State::kCaptured),
          VmRecord{"vm-1", 7, Standing::kAwaited, handoff_id, "instance"}};
}

class SqliteJournalTest : public testing::Test {
 protected:
  SqliteJournalTest() {
    char directory[] = "/tmp/journal-XXXXXX";
    EXPECT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    path_ = directory_ + "/agent/journal.db";
  }
  ~SqliteJournalTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<SqliteJournal> Open() const {
    auto journal = SqliteJournal::Open(path_);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }
  std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  void SetBytes(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  // A journal of some handoffs, closed: all of it is in the one file.
  void MakeWithContents() const {
    const auto journal = Open();
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(journal->Write(Begun(absl::StrCat("h", i))).ok());
  }
  std::vector<std::string> FilesBeside() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/agent"))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  // With another program, as an operator would.
  void Sql(const char* sql) const {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database);
    sqlite3_close(database);
  }

  std::string directory_;
  std::string path_;
};

TEST_F(SqliteJournalTest, ANewOneIsEmptyAndNamesItsAgentForGood) {
  std::string agent_id;
  {
    const auto journal = Open();
    agent_id = journal->agent_id();
    EXPECT_EQ(agent_id.size(), 16u);
    EXPECT_EQ(journal->unavailable_reason(), "");
    const auto contents = journal->Load();
    ASSERT_TRUE(contents.ok());
    EXPECT_THAT(contents->handoffs, IsEmpty());
    EXPECT_THAT(contents->vms, IsEmpty());
  }
  EXPECT_EQ(Open()->agent_id(), agent_id);
  std::filesystem::remove_all(directory_ + "/agent");
  EXPECT_NE(Open()->agent_id(), agent_id) << "another journal is another agent";
}

TEST_F(SqliteJournalTest, NobodyElseCanReadIt) {
  const auto journal = Open();
  ASSERT_TRUE(journal->Write(Begun("h1")).ok());
  for (const std::string& name : FilesBeside()) {
    struct stat facts;
    ASSERT_EQ(stat((directory_ + "/agent/" + name).c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600u) << name;
  }
  struct stat facts;
  ASSERT_EQ(stat((directory_ + "/agent").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700u);
}

TEST_F(SqliteJournalTest, WhatWasWrittenIsThereInTheOrderInWhichItWasBegun) {
  HandoffRecord second = RecordOf("a", Side::kDestination, State::kApplying, 1ull << 62);
  const HandoffRecord third = RecordOf("b", Side::kDestination, State::kEmpty);
  VmRecord vm{"vm-1", 7, Standing::kReleased, "b", std::string("\0i", 2)};
  {
    const auto journal = Open();
    ASSERT_TRUE(journal->Write(Begun("b")).ok());
    ASSERT_TRUE(journal->Write({second, std::nullopt}).ok());
    ASSERT_TRUE(journal->Write({third, VmRecord{"vm-0", 1, Standing::kOwned, "x", ""}}).ok());
    // A change keeps the place of its record.
    second.state = State::kApplied;
    second.answer = "an answer";
    second.restored = false;
    ASSERT_TRUE(journal->Write({second, vm}).ok());
  }
  const auto contents = Open()->Load();
  ASSERT_TRUE(contents.ok());
  EXPECT_THAT(contents->handoffs, ElementsAre(*Begun("b").handoff, second, third));
  EXPECT_THAT(contents->vms, ElementsAre(VmRecord{"vm-0", 1, Standing::kOwned, "x", ""}, vm));
}

TEST_F(SqliteJournalTest, IsOpenedByOneAgentAtATime) {
  const auto journal = Open();
  const auto other = SqliteJournal::Open(path_);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(other.status().message(), AllOf(HasSubstr(path_), HasSubstr("another agent")));
  const pid_t child = fork();
  if (child == 0) _exit(absl::IsAborted(SqliteJournal::Open(path_).status()) ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "another process opened it";
  EXPECT_TRUE(journal->Write(Begun("h1")).ok());
}

TEST_F(SqliteJournalTest, APathThatIsNotAbsoluteIsRefused) {
  for (const char* path : {"", "journal.db", ":memory:", "file:/tmp/x"})
    EXPECT_TRUE(absl::IsInvalidArgument(SqliteJournal::Open(path).status())) << path;
}

TEST_F(SqliteJournalTest, MakesItsOwnDirectoryAndNoMore) {
  const auto journal = SqliteJournal::Open(directory_ + "/not/there/journal.db");
  EXPECT_EQ(journal.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(journal.status().message(), HasSubstr("/not/there"));
}

TEST_F(SqliteJournalTest, AStartThatDidNotComeToItsEndLeavesNothing) {
  ASSERT_EQ(mkdir((directory_ + "/agent").c_str(), 0700), 0);
  std::ofstream(path_ + ".new") << "half a journal";
  const auto journal = Open();
  EXPECT_TRUE(journal->Write(Begun("h1")).ok());
  EXPECT_THAT(FilesBeside(), ElementsAre("journal.db", "journal.db-wal"));
}

TEST_F(SqliteJournalTest, WhatWasAcknowledgedOutlivesAKillAtAnyInstant) {
  constexpr int kRounds = 25;
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  Open();
  int acknowledged = 0;
  for (int round = 0; round < kRounds; ++round) {
    int answers[2];
    ASSERT_EQ(pipe(answers), 0);
    const pid_t child = fork();
    if (child == 0) {
      const auto journal = SqliteJournal::Open(path_);
      for (int i = acknowledged; journal.ok(); ++i) {
        if (!(*journal)->Write(Begun(absl::StrCat("h", i))).ok()) break;
        if (write(answers[1], "+", 1) != 1) break;
      }
      _exit(1);
    }
    close(answers[1]);
    char answer;
    const int until = static_cast<int>(random() % 20);
    int seen = 0;
    while (seen < until && read(answers[0], &answer, 1) == 1) ++seen;
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    while (read(answers[0], &answer, 1) == 1) ++seen;
    close(answers[0]);
    ASSERT_GE(seen, until);

    const auto journal = Open();
    ASSERT_EQ(journal->unavailable_reason(), "");
    const auto contents = journal->Load();
    ASSERT_TRUE(contents.ok());
    const int kept = static_cast<int>(contents->handoffs.size());
    EXPECT_GE(kept, acknowledged + seen) << "something acknowledged was lost";
    EXPECT_LE(kept, acknowledged + seen + 1) << "at most the one under way may be there, too";
    acknowledged = kept;
  }
  EXPECT_GT(acknowledged, kRounds);
}

TEST_F(SqliteJournalTest, WritersAtTheSameTimeShareTheirSyncsAndAllArrive) {
  constexpr int kThreads = 16;
  constexpr int kWrites = 40;
  {
    const auto journal = Open();
    std::atomic<int> commits{0};
    journal->set_on_commit([&](int64_t took_ns) {
      EXPECT_GT(took_ns, 0);
      ++commits;
    });
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kWrites; ++i)
          EXPECT_TRUE(journal->Write(Begun(absl::StrCat("h", thread, "-", i))).ok());
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_LT(commits, kThreads * kWrites) << "no two of them shared a sync";
  }
  EXPECT_THAT(Open()->Load()->handoffs, SizeIs(kThreads * kWrites));
}

// ---- damage ----

struct Damage {
  const char* name;
  std::function<std::string(std::string)> how;

  friend void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }
};

class DamageTest : public SqliteJournalTest, public testing::WithParamInterface<Damage> {};

TEST_P(DamageTest, IsMovedAsideNamedAndNeverTakenForAnEmptyJournal) {
  MakeWithContents();
  const std::string good = Bytes();
  const std::string bad = GetParam().how(good);
  ASSERT_NE(bad, good);
  SetBytes(bad);
  std::string aside;
  for (int start = 0; start < 2; ++start) {
    const auto journal = Open();
    ASSERT_NE(journal, nullptr);
    const std::string reason = journal->unavailable_reason();
    ASSERT_THAT(FilesBeside(), SizeIs(1)) << "start " << start;
    aside = directory_ + "/agent/" + FilesBeside().front();
    EXPECT_THAT(reason, AllOf(HasSubstr(path_), HasSubstr(aside), HasSubstr("damaged")));
    EXPECT_EQ(journal->agent_id(), "");
    EXPECT_EQ(ReasonOf(journal->Load().status()), Reason::kJournalUnavailable);
    EXPECT_EQ(ReasonOf(journal->Write(Begun("h1"))), Reason::kJournalUnavailable);
    EXPECT_EQ(ReasonOf(journal->Compact(0).status()), Reason::kJournalUnavailable);
  }
  std::ifstream file(aside, std::ios::binary);
  EXPECT_TRUE(std::string(std::istreambuf_iterator<char>(file), {}) == bad) << "evidence stays";
  // A good copy in its place is used.
  SetBytes(good);
  EXPECT_EQ(Open()->unavailable_reason(), "");
  EXPECT_THAT(Open()->Load()->handoffs, SizeIs(20));
  // And somebody who has decided that nothing in it is needed may begin anew.
  std::filesystem::remove(path_);
  std::filesystem::remove(aside);
  EXPECT_THAT(Open()->Load()->handoffs, IsEmpty());
}

std::string Replace(std::string bytes, const std::string& what, const std::string& with) {
  const size_t at = bytes.rfind(what);
  EXPECT_NE(at, std::string::npos);
  return bytes.replace(at, with.size(), with);
}

const Damage kDamages[] = {
    {"Emptied", [](const std::string&) { return std::string(); }},
    {"CutInHalf", [](const std::string& good) { return good.substr(0, good.size() / 2); }},
    {"CutByABlock", [](const std::string& good) { return good.substr(0, good.size() - 4096); }},
    {"NotADatabase", [](const std::string& good) { return std::string(good.size(), 'x'); }},
    {"AnotherDatabase",
     [](std::string good) { return good.replace(68, 4, std::string("\0\0\0\0", 4)); }},
    {"NoVersion", [](std::string good) { return good.replace(60, 4, std::string("\0\0\0\0", 4)); }},
    {"ABlockOfZeros",
     [](std::string good) { return good.replace(good.size() - 4096, 4096, 4096, '\0'); }},
    // What SQLite itself does not see.
    {"ABitOfAnAnswer", [](std::string good) { return Replace(good, "aaaaaaaa", "aaabaaaa"); }},
    {"ABitOfAProof",
     [](std::string good) {
       return Replace(good, std::string("\xff proof"), std::string("\xfe proof"));
     }},
};

INSTANTIATE_TEST_SUITE_P(Damages, DamageTest, testing::ValuesIn(kDamages),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(SqliteJournalTest, AnyFlippedBitIsFoundOrDoesNotMatter) {
  MakeWithContents();
  const std::string good = Bytes();
  const std::vector<HandoffRecord> handoffs = Open()->Load()->handoffs;
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  for (int i = 0; i < 200; ++i) {
    std::string bad = good;
    bad[random() % bad.size()] ^= static_cast<char>(1 << (random() % 8));
    SetBytes(bad);
    const auto journal = SqliteJournal::Open(path_);
    if (!journal.ok()) {
      EXPECT_TRUE(Bytes() == bad) << journal.status() << ": what is refused is left alone";
    } else if ((*journal)->unavailable_reason().empty()) {
      EXPECT_EQ((*journal)->Load()->handoffs, handoffs);
    }
    for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/agent"))
      std::filesystem::remove(entry.path());
  }
}

TEST_F(SqliteJournalTest, ALogWithoutItsJournalIsDamage) {
  MakeWithContents();
  std::filesystem::rename(path_, path_ + "-wal");
  for (int start = 0; start < 2; ++start)
    EXPECT_THAT(Open()->unavailable_reason(), HasSubstr(".damaged-"));
}

TEST_F(SqliteJournalTest, ANewerAgentsJournalIsLeftAlone) {
  MakeWithContents();
  Sql("PRAGMA user_version = 3");
  const std::string bytes = Bytes();
  const auto journal = SqliteJournal::Open(path_);
  EXPECT_EQ(journal.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(journal.status().message(), AllOf(HasSubstr(path_), HasSubstr("newer")));
  EXPECT_TRUE(Bytes() == bytes);
  EXPECT_THAT(FilesBeside(), ElementsAre("journal.db"));
}

TEST_F(SqliteJournalTest, ADiskThatTakesNoMoreMakesItUnavailableAndLosesNothing) {
  MakeWithContents();
  // In a process of its own: the limit is on every file that it writes.
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const auto journal = SqliteJournal::Open(path_);
    if (!journal.ok() || !(*journal)->Write(Begun("before")).ok()) _exit(1);
    struct stat facts;
    if (stat((path_ + "-wal").c_str(), &facts) != 0) _exit(2);
    const rlimit limit{static_cast<rlim_t>(facts.st_size) + 100, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    if (ReasonOf((*journal)->Write(Begun("during"))) != Reason::kJournalUnavailable) _exit(3);
    if ((*journal)->unavailable_reason().find(path_) == std::string::npos) _exit(4);
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &none);
    if (ReasonOf((*journal)->Write(Begun("after"))) != Reason::kJournalUnavailable) _exit(5);
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0) << "left with " << WEXITSTATUS(status);
  const auto journal = Open();
  const auto contents = journal->Load();
  ASSERT_TRUE(contents.ok());
  ASSERT_GE(contents->handoffs.size(), 21u);
  EXPECT_EQ(contents->handoffs[20].ticket.handoff_id, "before");
  EXPECT_TRUE(journal->Write(Begun("again")).ok());
}

// ---- compaction ----

struct Ended {
  Side side;
  State state;
  bool restored;
  bool old;
  bool later;  // the VM has been in a later handoff here
  bool dropped;
};

TEST_F(SqliteJournalTest, DropsWhatHasEndedAndNobodyCanNeed) {
  const Ended rows[] = {
      {Side::kDestination, State::kActive, false, true, false, true},
      {Side::kDestination, State::kActive, false, false, false, false},
      {Side::kDestination, State::kAborted, true, true, false, true},
      {Side::kDestination, State::kAborted, false, true, true, false},
      {Side::kDestination, State::kEmpty, false, true, true, false},
      {Side::kDestination, State::kApplying, false, true, true, false},
      {Side::kDestination, State::kApplied, false, true, true, false},
      {Side::kSource, State::kCaptured, false, true, true, false},
      {Side::kSource, State::kReleased, false, true, false, false},
      {Side::kSource, State::kReleased, false, true, true, true},
      {Side::kSource, State::kReleased, false, false, true, false},
      {Side::kSource, State::kAborted, false, true, false, false},
      {Side::kSource, State::kAborted, false, true, true, true},
  };
  std::vector<HandoffKey> dropped;
  std::vector<std::string> kept;
  {
    const auto journal = Open();
    for (size_t i = 0; i < std::size(rows); ++i) {
      const Ended& row = rows[i];
      HandoffRecord record = RecordOf(absl::StrCat("h", i), row.side, row.state, 5);
      record.vm_id = absl::StrCat("vm-", i);
      record.restored = row.restored;
      record.changed_at_ns = row.old ? 999 : 1000;
      const VmRecord vm{record.vm_id, row.later ? 6u : 5u, Standing::kUnknown, "", ""};
      ASSERT_TRUE(journal->Write({record, vm}).ok());
      if (row.dropped) {
        dropped.push_back({record.ticket.handoff_id, row.side});
      } else {
        kept.push_back(record.ticket.handoff_id);
      }
    }
    const auto found = journal->Compact(1000);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(*found, testing::UnorderedElementsAreArray(dropped));
  }
  const auto contents = Open()->Load();
  std::vector<std::string> left;
  for (const HandoffRecord& record : contents->handoffs) left.push_back(record.ticket.handoff_id);
  EXPECT_EQ(left, kept);
  EXPECT_THAT(contents->vms, SizeIs(std::size(rows))) << "epochs are kept for ever";
}

}  // namespace
}  // namespace tsc_handoff::journal
