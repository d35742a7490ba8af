// QmpClient and a whole plain migration against the QEMU of this machine, under emulation: what a
// real one says and does is what the fakes are measured by.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "client/lib/retry.h"
#include "client/qmp/migrate_vm.h"
#include "client/qmp/qmp_client.h"

namespace tsc_handoff::qmp {
namespace {

using ::testing::HasSubstr;

constexpr char kQemu[] = "/usr/bin/qemu-system-x86_64";
constexpr absl::Duration kPatient = absl::Seconds(60);

// A QEMU whose guest stays in its firmware; killed at the end.
class Qemu {
 public:
  Qemu(std::string monitor, std::vector<std::string> more) : monitor_(std::move(monitor)) {
    std::vector<std::string> words = {kQemu,
                                      "-accel",
                                      "tcg",
                                      "-m",
                                      "16",
                                      "-nodefaults",
                                      "-display",
                                      "none",
                                      "-no-user-config",
                                      "-qmp",
                                      "unix:" + monitor_ + ",server=on,wait=off"};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      execv(kQemu, argv.data());
      _exit(127);
    }
  }
  ~Qemu() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Qemu(const Qemu&) = delete;
  Qemu& operator=(const Qemu&) = delete;

  // Once it listens.
  std::unique_ptr<QmpClient> Connect() {
    const absl::Time deadline = absl::Now() + kPatient;
    while (absl::Now() < deadline && waitpid(pid_, nullptr, WNOHANG) == 0) {
      auto client = QmpClient::Connect(*ParseQmpAddress("unix:" + monitor_), kPatient);
      if (client.ok()) return *std::move(client);
      absl::SleepFor(absl::Milliseconds(20));
    }
    ADD_FAILURE() << "QEMU does not listen at " << monitor_;
    return nullptr;
  }

 private:
  std::string monitor_;
  pid_t pid_ = -1;
};

class QemuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access(kQemu, X_OK) != 0) GTEST_SKIP() << "no " << kQemu << " on this machine";
    char directory[] = "/tmp/qemu-XXXXXX";
    directory_ = mkdtemp(directory);
  }
  ~QemuTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const char* name) const { return directory_ + "/" + name; }

  std::string directory_ = "/nonexistent";
};

TEST_F(QemuTest, ARealMonitorAnswersAndTellsEvents) {
  Qemu qemu(Path("monitor"), {"-machine", "none"});
  const auto client = qemu.Connect();
  ASSERT_NE(client, nullptr);
  EXPECT_THAT(client->qemu_version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  const auto kvm = client->Execute("query-kvm", nlohmann::json::object());
  ASSERT_TRUE(kvm.ok()) << kvm.status();
  EXPECT_EQ((*kvm)["enabled"], false);
  const auto refused = client->Execute("migrate", {{"uri", "nonsense:"}});
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
  const auto unknown = client->Execute("make-coffee", nlohmann::json::object());
  EXPECT_TRUE(absl::IsUnimplemented(unknown.status())) << unknown.status();
  ASSERT_TRUE(client->Execute("stop", nlohmann::json::object()).ok());
  const auto event = client->NextEvent(kPatient);
  ASSERT_TRUE(event.ok() && event->has_value()) << event.status();
  EXPECT_EQ((*event)->name, "STOP");
  // A second client of the same monitor waits in vain.
  const auto second =
      QmpClient::Connect(*ParseQmpAddress("unix:" + Path("monitor")), absl::Milliseconds(100));
  EXPECT_TRUE(absl::IsDeadlineExceeded(second.status())) << second.status();
  ASSERT_TRUE(client->Execute("quit", nlohmann::json::object()).ok());
}

class QemuMigrationTest : public QemuTest {
 protected:
  MigrateResult Migrate(const std::vector<std::string>& incoming, MigrationOptions options) {
    Qemu from(Path("from"), {"-machine", "pc", "-name", "guest=vm1"});
    std::vector<std::string> more = {"-machine", "pc", "-name", "guest=vm1"};
    more.insert(more.end(), incoming.begin(), incoming.end());
    Qemu to(Path("to"), more);
    source_ = from.Connect();
    destination_ = to.Connect();
    if (source_ == nullptr || destination_ == nullptr) return {};
    options.require_kvm = false;
    options.source_vm_id = options.destination_vm_id = "vm1";
    options.now = client::SystemTime().steady_now;
    QemuMigration migration(*source_, *destination_, options);
    const MigrateResult result = MigrateVm(migration, [this](const auto& transfer) {
      const absl::Status moved = transfer();
      return HandedOver{moved.ok() ? handed_ : HandedOver::End::kNotMoved, moved};
    });
    for (auto [client, status] :
         {std::pair(source_.get(), &source_status_), std::pair(destination_.get(), &there_)}) {
      const auto answer = client->Execute("query-status", nlohmann::json::object());
      *status = answer.ok() ? (*answer)["status"].get<std::string>() : "gone";
    }
    return result;
  }

  HandedOver::End handed_ = HandedOver::End::kMoved;
  std::unique_ptr<QmpClient> source_;
  std::unique_ptr<QmpClient> destination_;
  std::string source_status_;
  std::string there_;
};

TEST_F(QemuMigrationTest, MovesAVmThoughTheDestinationWasStartedWithoutS) {
  MigrationOptions options;
  options.uri = options.incoming = "unix:" + Path("migration");
  options.keep_source = true;
  const MigrateResult result = Migrate({"-incoming", "defer"}, options);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.end, MigrateEnd::kMoved);
  EXPECT_EQ(source_status_, "postmigrate");
  EXPECT_EQ(there_, "running");
}

TEST_F(QemuMigrationTest, BringsAVmBackWhoseTscsAreRefused) {
  handed_ = HandedOver::End::kNotMoved;
  MigrationOptions options;
  options.uri = "unix:" + Path("migration");
  const MigrateResult result = Migrate({"-S", "-incoming", options.uri}, options);
  EXPECT_EQ(result.end, MigrateEnd::kReturned) << result.status;
  EXPECT_EQ(source_status_, "running");
  EXPECT_EQ(there_, "gone");
}

TEST_F(QemuMigrationTest, AMigrationToNowhereLeavesTheVmRunning) {
  MigrationOptions options;
  options.uri = "unix:" + Path("nowhere");
  const MigrateResult result = Migrate({"-incoming", "defer"}, options);
  EXPECT_EQ(result.end, MigrateEnd::kStayed);
  EXPECT_THAT(result.status.message(), HasSubstr("nowhere"));
  EXPECT_EQ(source_status_, "running");
}

}  // namespace
}  // namespace tsc_handoff::qmp
