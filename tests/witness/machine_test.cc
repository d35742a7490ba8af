// Runs the guest on the KVM of this machine. Each test first shows that the guest is content, then
// gives it a reason not to be, by changing its record: a witness that cannot object proves nothing.
// Needs no TSC offsets, so that it also runs where KVM's TSC is protected; the cluster's tests move
// real ones.

#include "tests/witness/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "tests/witness/runner.h"

namespace tsc_handoff::witness {
namespace {

using ::testing::HasSubstr;

class Guest {
 public:
  // nullptr where this machine has no KVM; *why says so.
  static std::unique_ptr<Guest> Make(std::vector<uint32_t> ids, std::string* why) {
    auto machine = Machine::Create({.vcpu_ids = std::move(ids)});
    if (!machine.ok()) {
      *why = std::string(machine.status().message());
      return nullptr;
    }
    return std::unique_ptr<Guest>(new Guest(*std::move(machine)));
  }

  absl::Status StartFresh(bool check_across = true) {
    GuestSetup setup;
    setup.phase_ticks.assign(machine->vcpus().size(), 0);
    setup.tsc_adjust_ticks.assign(machine->vcpus().size(), 0);
    setup.check_across = check_across;
    return machine->StartFresh(setup);
  }

  // Runs until `done`, then pauses. Fails after half a minute.
  void RunUntil(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    runner->Run();
    while (!done() && failure().empty()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the guest makes no progress";
      std::this_thread::yield();
    }
    const absl::Status paused = runner->Pause();
    ASSERT_TRUE(paused.ok()) << paused;
  }

  // Until every vCPU has gone round `rounds` times more, and no vCPU holds the lock: one that was
  // paused behind it would go on with readings from before the pause, and undo what a test wrote.
  void RunRounds(uint64_t rounds) {
    std::vector<uint64_t> goals;
    for (size_t i = 0; i < machine->vcpus().size(); ++i) {
      goals.push_back(machine->record(i)->iterations + rounds);
    }
    do {
      ASSERT_NO_FATAL_FAILURE(RunUntil([&] {
        for (size_t i = 0; i < goals.size(); ++i) {
          if (machine->record(i)->iterations < goals[i]) return false;
        }
        return true;
      }));
    } while (machine->shared()->lock != 0 && failure().empty());
  }

  uint64_t Sum(uint64_t WitnessVcpu::*field) const {
    uint64_t sum = 0;
    for (size_t i = 0; i < machine->vcpus().size(); ++i) sum += machine->record(i)->*field;
    return sum;
  }

  std::string failure() {
    std::lock_guard lock(mutex);
    return failure_text;
  }

  std::mutex mutex;
  std::string failure_text;
  std::unique_ptr<Machine> machine;
  std::unique_ptr<Runner> runner;

 private:
  explicit Guest(std::unique_ptr<Machine> m) : machine(std::move(m)) {
    runner = std::make_unique<Runner>(*machine, RunnerConfig{}, [this](const std::string& text) {
      std::lock_guard lock(mutex);
      failure_text += text;
    });
  }
};

class MachineTest : public ::testing::Test {
 protected:
  void Make(std::vector<uint32_t> ids) {
    std::string why;
    guest_ = Guest::Make(std::move(ids), &why);
    if (guest_ == nullptr) GTEST_SKIP() << why;
  }

  std::unique_ptr<Guest> guest_;
};

TEST_F(MachineTest, AGuestOnAHealthyHostIsContent) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 2, 5}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh().ok());
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(200));
  EXPECT_EQ(guest_->failure(), "");
  EXPECT_EQ(guest_->Sum(&WitnessVcpu::backward_steps), 0u);
  EXPECT_EQ(guest_->Sum(&WitnessVcpu::warps), 0u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(guest_->machine->record(i)->has_adjust, 1u);
    EXPECT_GE(guest_->machine->record(i)->adjust_reads, 1u);
    EXPECT_GT(guest_->machine->record(i)->forward_largest_ticks, 0u);
    EXPECT_GE(guest_->runner->beats(i), 1u);
  }
}

TEST_F(MachineTest, TheGuestSeesABackwardStepAndItsSize) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 1}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh(/*check_across=*/false).ok());
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(10));
  constexpr uint64_t kFuture = uint64_t{1} << 50;
  guest_->machine->record(1)->last_tsc_ticks = guest_->machine->record(1)->last_tsc_ticks + kFuture;
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(10));
  EXPECT_EQ(guest_->machine->record(0)->backward_steps, 0u);
  EXPECT_EQ(guest_->machine->record(1)->backward_steps, 1u);
  EXPECT_LT(guest_->machine->record(1)->backward_largest_ticks, kFuture);
  EXPECT_GT(guest_->machine->record(1)->backward_largest_ticks, kFuture / 2);
  EXPECT_EQ(guest_->Sum(&WitnessVcpu::warps), 0u) << "not compared across";
}

TEST_F(MachineTest, TheGuestSeesAWrongPhaseAsWarps) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 1}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh().ok());
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(10));
  ASSERT_EQ(guest_->Sum(&WitnessVcpu::warps), 0u);
  // vCPU 1 is told that it ran ahead by more than the test lasts: every reading of it after one of
  // vCPU 0 is a warp.
  constexpr uint64_t kPhase = uint64_t{1} << 50;
  guest_->machine->record(1)->phase_ticks = kPhase;
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(200));
  EXPECT_GT(guest_->machine->record(1)->warps, 0u);
  EXPECT_LE(guest_->machine->record(1)->warp_largest_ticks, kPhase);
  EXPECT_GT(guest_->machine->record(1)->warp_largest_ticks, kPhase / 2);
  EXPECT_EQ(guest_->machine->record(0)->warps, 0u);
  EXPECT_EQ(guest_->Sum(&WitnessVcpu::backward_steps), 0u);
  // Switched off and the record set right, it is content again.
  const uint64_t warps = guest_->Sum(&WitnessVcpu::warps);
  guest_->machine->record(1)->phase_ticks = 0;
  guest_->machine->SetCheckAcross(true);
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(50));
  EXPECT_EQ(guest_->Sum(&WitnessVcpu::warps), warps);
}

TEST_F(MachineTest, PausedMeansThatNothingMoves) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 1, 2, 3}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh().ok());
  // Pausing at once after running meets vCPUs at every point of their loop, also before they have
  // begun.
  for (int i = 0; i < 20; ++i) {
    ASSERT_NO_FATAL_FAILURE(guest_->RunUntil([] { return true; }));
    auto first = guest_->machine->Save();
    ASSERT_TRUE(first.ok()) << first.status();
    auto second = guest_->machine->Save();
    ASSERT_TRUE(second.ok()) << second.status();
    ASSERT_EQ(EncodeSnapshot(*first), EncodeSnapshot(*second));
  }
  EXPECT_EQ(guest_->failure(), "");
}

TEST_F(MachineTest, ASavedGuestGoesOnInAnotherMachine) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 3, 9}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh().ok());
  ASSERT_NO_FATAL_FAILURE(guest_->RunRounds(50));
  auto saved = guest_->machine->Save();
  ASSERT_TRUE(saved.ok()) << saved.status();
  auto decoded = DecodeSnapshot(EncodeSnapshot(*saved));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const uint64_t rounds = guest_->Sum(&WitnessVcpu::iterations);

  std::string why;
  auto other = Guest::Make({0, 3, 9}, &why);
  ASSERT_NE(other, nullptr) << why;
  ASSERT_TRUE(other->machine->Load(*decoded).ok());
  EXPECT_EQ(other->Sum(&WitnessVcpu::iterations), rounds) << "the record came along";
  auto saved_again = other->machine->Save();
  ASSERT_TRUE(saved_again.ok()) << saved_again.status();
  EXPECT_EQ(EncodeSnapshot(*saved_again), EncodeSnapshot(*saved));
  ASSERT_NO_FATAL_FAILURE(other->RunRounds(50));
  EXPECT_EQ(other->failure(), "");
  EXPECT_GE(other->Sum(&WitnessVcpu::iterations), rounds + 150);
}

TEST_F(MachineTest, AnotherSetOfVcpusIsRefused) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 1}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh().ok());
  auto saved = guest_->machine->Save();
  ASSERT_TRUE(saved.ok()) << saved.status();
  std::string why;
  auto other = Guest::Make({0, 2}, &why);
  ASSERT_NE(other, nullptr) << why;
  const absl::Status status = other->machine->Load(*saved);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(MachineTest, AGuestThatCrashesIsReportedWithItsRegisters) {
  ASSERT_NO_FATAL_FAILURE(Make({0, 7}));
  if (IsSkipped()) return;
  ASSERT_TRUE(guest_->StartFresh().ok());
  auto saved = guest_->machine->Save();
  ASSERT_TRUE(saved.ok()) << saved.status();
  saved->vcpus[1].regs.rip = 0x5000;
  saved->memory.replace(0x5000, 2, "\x0f\x0b");  // ud2, without an IDT
  ASSERT_TRUE(guest_->machine->Load(*saved).ok());
  ASSERT_NO_FATAL_FAILURE(guest_->RunUntil([this] { return !guest_->failure().empty(); }));
  EXPECT_THAT(guest_->failure(), HasSubstr("vCPU 7 stopped: "));
  EXPECT_THAT(guest_->failure(), HasSubstr("shutdown"));
  EXPECT_THAT(guest_->failure(), HasSubstr("rip 0x"));
}

}  // namespace
}  // namespace tsc_handoff::witness
