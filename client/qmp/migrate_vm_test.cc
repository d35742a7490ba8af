// A whole migration between two QEMUs that behave, and everything that can go wrong on the way.
#include "client/qmp/migrate_vm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/qmp/testing/fake_qemu.h"

namespace tsc_handoff::qmp {
namespace {

using ::testing::HasSubstr;

constexpr auto kAllEnds = {HandedOver::End::kMoved, HandedOver::End::kNotMoved,
                           HandedOver::End::kOpen};

// Two QEMUs, and a check at every moment that the VM does not run on both.
class MigrateVmTest : public ::testing::Test {
 protected:
  MigrateVmTest() {
    destination_.status = "inmigrate";
    source_.ConnectTo(destination_);
    source_.changed = destination_.changed = [this] {
      EXPECT_FALSE(source_.running() && destination_.running());
      // After that nothing may ever run it on the source again.
      EXPECT_FALSE(released_ && source_.running());
    };
    options_.uri = "tcp:there";
    options_.source_vm_id = options_.destination_vm_id = "vm1";
    options_.interrupts = [this] { return interrupts_; };
    options_.now = [this] { return clock_.now; };
  }

  MigrateResult Run() {
    migration_ = std::make_unique<QemuMigration>(source_, destination_, options_);
    return MigrateVm(*migration_, [this](const auto& transfer) {
      if (!agents_.ok()) return HandedOver{HandedOver::End::kNotMoved, agents_};
      const absl::Status moved = transfer();
      if (!moved.ok()) return HandedOver{HandedOver::End::kNotMoved, moved};
      // This is when TSCs are read and written.
      EXPECT_FALSE(source_.running() || destination_.running());
      clock_.now += absl::Milliseconds(7);
      released_ = handed_ == HandedOver::End::kMoved;
      return HandedOver{handed_, handed_status_};
    });
  }

  FakeClock clock_;
  FakeQemu source_{"source.qmp", clock_};
  FakeQemu destination_{"destination.qmp", clock_};
  MigrationOptions options_;
  int interrupts_ = 0;
  // What the handoff comes to.
  absl::Status agents_;
  HandedOver::End handed_ = HandedOver::End::kMoved;
  absl::Status handed_status_;
  bool released_ = false;
  std::unique_ptr<QemuMigration> migration_;
};

TEST_F(MigrateVmTest, ARunningVmRunsOnTheDestinationAndTheSourceIsGone) {
  std::vector<std::string> seen;
  options_.progress = [&seen](const TransferProgress& now) { seen.push_back(now.status); };
  const MigrateResult result = Run();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.end, MigrateEnd::kMoved);
  EXPECT_TRUE(destination_.running());
  EXPECT_TRUE(source_.gone());
  EXPECT_THAT(seen, testing::ElementsAre("active", "active", "completed"));
  const MigrationFigures& figures = migration_->figures();
  EXPECT_EQ(figures.loaded_to_cont, absl::Milliseconds(7));
  ASSERT_TRUE(figures.downtime.has_value());
  EXPECT_GE(*figures.downtime, figures.loaded_to_cont);
  EXPECT_LT(*figures.downtime, figures.transfer + figures.loaded_to_cont);
  EXPECT_EQ(figures.transferred_bytes, 5u);
  EXPECT_EQ(figures.qemu_downtime_ms, 90);
}

TEST_F(MigrateVmTest, APausedVmStaysPaused) {
  source_.status = "paused";
  const MigrateResult result = Run();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.end, MigrateEnd::kMoved);
  EXPECT_EQ(destination_.status, "paused");
  EXPECT_FALSE(migration_->figures().downtime.has_value());
}

TEST_F(MigrateVmTest, TheSourcesQemuIsKeptWhenAsked) {
  options_.keep_source = true;
  EXPECT_TRUE(Run().status.ok());
  EXPECT_EQ(source_.status, "postmigrate");
}

TEST_F(MigrateVmTest, ADestinationThatWasStartedWithDeferIsToldWhereToListen) {
  options_.incoming = "tcp:0:4444";
  EXPECT_TRUE(Run().status.ok());
  EXPECT_EQ(destination_.calls().at("migrate-incoming"), 1);
}

TEST_F(MigrateVmTest, WhatIsNotFitIsFoundBeforeAnythingIsDone) {
  struct Row {
    const char* what;
    std::function<void()> spoil;
    const char* words;
  };
  const std::vector<Row> rows = {
      {"source has gone on", [&] { source_.status = "postmigrate"; }, "must run, or be paused"},
      {"source waits itself", [&] { source_.status = "inmigrate"; }, "must run, or be paused"},
      {"destination runs", [&] { destination_.status = "running"; }, "start it with -incoming"},
      {"destination has loaded", [&] { destination_.status = "paused"; }, "-incoming"},
      {"another VM", [&] { source_.name = "vm2"; }, "not vm1 but has the name \"vm2\""},
      {"another destination", [&] { destination_.name = "x"; }, "destination.qmp"},
      {"fewer vCPUs", [&] { destination_.vcpus = 1; }, "it has 1 vCPUs, and the source has 2"},
      {"no KVM", [&] { source_.kvm = false; }, "-accel kvm"},
  };
  const auto fit = [&] {
    source_.status = "running";
    destination_.status = "inmigrate";
    source_.name = destination_.name = "vm1";
    destination_.vcpus = 2;
    source_.kvm = true;
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    row.spoil();
    const MigrateResult result = Run();
    EXPECT_EQ(result.end, MigrateEnd::kNothingDone);
    EXPECT_TRUE(absl::IsFailedPrecondition(result.status)) << result.status;
    EXPECT_THAT(result.status.message(), HasSubstr(row.words));
    EXPECT_EQ(source_.calls().count("migrate"), 0u);
    fit();
  }
}

TEST_F(MigrateVmTest, KvmIsOnlyNeededForAHandoff) {
  source_.kvm = destination_.kvm = false;
  options_.require_kvm = false;
  EXPECT_TRUE(Run().status.ok());
}

TEST_F(MigrateVmTest, AgentsThatAreNotFitLeaveEverythingAsItIs) {
  agents_ = absl::NotFoundError("no such VM");
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kNothingDone);
  EXPECT_EQ(result.status, agents_);
  EXPECT_TRUE(source_.running());
  EXPECT_EQ(destination_.status, "inmigrate");
}

TEST_F(MigrateVmTest, AMigrationThatFailsLeavesTheVmRunningOnTheSource) {
  source_.error = "Unable to write to socket: Broken pipe";
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kStayed);
  EXPECT_THAT(result.status.message(), HasSubstr("Broken pipe"));
  EXPECT_TRUE(source_.running());
  EXPECT_EQ(source_.calls().count("cont"), 0u) << "QEMU has resumed it itself";
}

TEST_F(MigrateVmTest, ADestinationThatDiesWhileItLoadsGivesTheVmBack) {
  destination_.loads = false;
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kStayed);
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_TRUE(source_.running());
}

TEST_F(MigrateVmTest, AnInterruptCancelsTheMigration) {
  source_.passes = 1000;
  options_.progress = [this](const TransferProgress&) { interrupts_ = 1; };
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kStayed);
  EXPECT_TRUE(absl::IsCancelled(result.status)) << result.status;
  EXPECT_EQ(source_.calls().at("migrate_cancel"), 1);
  EXPECT_TRUE(source_.running());
}

TEST_F(MigrateVmTest, AnInterruptThatComesTooLateChangesNothing) {
  options_.progress = [this](const TransferProgress& now) {
    if (now.status == "completed") interrupts_ = 1;
  };
  EXPECT_TRUE(Run().status.ok());
  EXPECT_TRUE(destination_.running());
}

TEST_F(MigrateVmTest, ASecondInterruptLeavesItAsItIs) {
  source_.passes = 1000;
  source_.Upset("migrate_cancel", 1, Mishap::kRefused);
  options_.progress = [this](const TransferProgress&) { ++interrupts_; };
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kUnclear);
  EXPECT_TRUE(absl::IsCancelled(result.status)) << result.status;
}

TEST_F(MigrateVmTest, ARefusedHandoffBringsTheVmBack) {
  handed_ = HandedOver::End::kNotMoved;
  handed_status_ = absl::FailedPreconditionError("the clocks disagree");
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kReturned);
  EXPECT_EQ(result.status, handed_status_);
  EXPECT_TRUE(source_.running());
  EXPECT_TRUE(destination_.gone());
}

TEST_F(MigrateVmTest, ASourceThatHasNotQuiteFinishedIsWaitedFor) {
  source_.finishing = 3;
  handed_ = HandedOver::End::kNotMoved;
  handed_status_ = absl::FailedPreconditionError("the clocks disagree");
  EXPECT_EQ(Run().end, MigrateEnd::kReturned);
  EXPECT_TRUE(source_.running());
  EXPECT_EQ(source_.calls().at("cont"), 1);
}

TEST_F(MigrateVmTest, AHandoffThatIsNotDecidedKeepsTheVmPausedOnBothSides) {
  handed_ = HandedOver::End::kOpen;
  handed_status_ = absl::UnavailableError("no answer");
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kOpen);
  EXPECT_EQ(source_.status, "postmigrate");
  EXPECT_EQ(destination_.status, "paused");
}

TEST_F(MigrateVmTest, AfterTheReleaseItGoesForwardWhateverElseWasWrong) {
  handed_status_ = absl::InternalError("a phase changed");
  destination_.Upset("cont", 1, Mishap::kRefused);
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kMoved);
  EXPECT_THAT(result.status.message(), HasSubstr("a phase changed; and then: cont: refused"));
  EXPECT_TRUE(source_.gone());
}

TEST_F(MigrateVmTest, SomebodyElseWhoRunsTheDestinationIsNoticed) {
  options_.progress = [this](const TransferProgress& now) {
    if (now.status == "completed") destination_.status = "running";
  };
  const MigrateResult result = Run();
  EXPECT_EQ(result.end, MigrateEnd::kUnclear);
  EXPECT_THAT(result.status.message(), HasSubstr("somebody else drives this QEMU"));
  EXPECT_EQ(source_.status, "postmigrate");
}

// Every command of every QEMU goes wrong in every way, with every end of the handoff, for a VM that
// ran and one that was paused; what is claimed at the end is true.
struct Trouble {
  bool at_source;
  std::string command;
  int nth;
  Mishap mishap;
  HandedOver::End handed;
  bool was_running;
};

class EveryMishap : public MigrateVmTest {
 protected:
  static std::vector<std::pair<std::string, int>> CommandsOf(bool source) {
    EveryMishap calm;
    calm.handed_ = HandedOver::End::kNotMoved;
    calm.Run();
    EveryMishap forward;
    forward.Run();
    std::vector<std::pair<std::string, int>> commands;
    for (EveryMishap* run : {&calm, &forward}) {
      for (const auto& [command, times] : (source ? run->source_ : run->destination_).calls()) {
        for (int nth = 1; nth <= times; ++nth) commands.emplace_back(command, nth);
      }
    }
    return commands;
  }

  void Check(const Trouble& trouble) {
    source_.status = trouble.was_running ? "running" : "paused";
    handed_ = trouble.handed;
    if (handed_ != HandedOver::End::kMoved) handed_status_ = absl::AbortedError("not handed over");
    FakeQemu& upset = trouble.at_source ? source_ : destination_;
    upset.Upset(trouble.command, trouble.nth, trouble.mishap);
    const MigrateResult result = Run();
    const bool source_as_before = source_.gone() || source_.running() == trouble.was_running ||
                                  result.end == MigrateEnd::kUnclear;
    switch (result.end) {
      case MigrateEnd::kNothingDone:
      case MigrateEnd::kStayed:
      case MigrateEnd::kReturned:
        EXPECT_TRUE(source_as_before) << source_.status;
        EXPECT_FALSE(destination_.running());
        EXPECT_FALSE(released_);
        EXPECT_FALSE(result.status.ok());
        break;
      case MigrateEnd::kMoved:
        EXPECT_TRUE(released_);
        EXPECT_FALSE(source_.running());
        EXPECT_TRUE(!result.status.ok() || destination_.running() == trouble.was_running);
        break;
      case MigrateEnd::kOpen:
        EXPECT_FALSE(source_.running() || destination_.running());
        break;
      case MigrateEnd::kUnclear:
        EXPECT_FALSE(result.status.ok());
        EXPECT_FALSE(destination_.running());
        break;
    }
  }

  void TestBody() override {}
};

TEST(MigrateVm, WhateverGoesWrongWhatIsClaimedIsTrue) {
  class Run : public EveryMishap {
   public:
    using EveryMishap::Check;
    using EveryMishap::CommandsOf;
  };
  int runs = 0;
  for (const bool at_source : {true, false}) {
    for (const auto& [command, nth] : Run::CommandsOf(at_source)) {
      for (const Mishap mishap : {Mishap::kRefused, Mishap::kLost, Mishap::kGone}) {
        for (const HandedOver::End handed : kAllEnds) {
          for (const bool was_running : {true, false}) {
            SCOPED_TRACE(absl::StrCat(at_source ? "source " : "destination ", command, " ", nth,
                                      " mishap ", static_cast<int>(mishap), " handed ",
                                      static_cast<int>(handed), " running ", was_running));
            Run().Check({at_source, command, nth, mishap, handed, was_running});
            ++runs;
          }
        }
      }
    }
  }
  EXPECT_GT(runs, 300);
}

}  // namespace
}  // namespace tsc_handoff::qmp
