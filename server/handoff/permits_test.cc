#include "server/handoff/permits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace tsc_handoff::handoff {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ScriptedPort final : public port::VmPort {
 public:
  absl::StatusOr<port::Capture> ReadAll(port::Hold) override { return absl::InternalError("none"); }
  absl::StatusOr<port::Applied> WriteAll(const port::ApplyOrder&, port::Hold) override {
    return absl::InternalError("none");
  }
  void SendPermit(const port::Permit& permit) override { sent.push_back(permit); }
  absl::StatusOr<bool> IsPaused() override { return !running; }

  bool running = false;
  std::vector<port::Permit> sent;
};

class JournalThatMayBeUnusable final : public journal::Journal {
 public:
  const std::string& agent_id() const override { return agent_id_; }
  absl::StatusOr<journal::Contents> Load() override { return journal::Contents(); }
  absl::Status Write(const journal::Change&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<journal::HandoffKey>> Compact(int64_t) override {
    return std::vector<journal::HandoffKey>();
  }
  void set_on_commit(std::function<void(int64_t)>) override {}
  std::string unavailable_reason() const override { return reason; }

  std::string reason;

 private:
  const std::string agent_id_ = std::string(16, 'a');
};

class PermitsTest : public testing::Test {
 protected:
  std::shared_ptr<registry::RegisteredVm> Register(bool awaits_handoff, bool runs = false) {
    registry::VmIdentity identity;
    identity.vm_id = "vm";
    identity.awaits_handoff = awaits_handoff;
    identity.running_at_registration = runs;
    auto port = std::make_unique<ScriptedPort>();
    port_ = port.get();
    auto vm = std::make_shared<registry::RegisteredVm>(std::move(identity), std::move(port),
                                                       std::vector<UniqueFd>());
    EXPECT_TRUE(registry_.Add(vm, [] { return absl::OkStatus(); }).ok());
    return vm;
  }

  JournalThatMayBeUnusable journal_;
  HandoffTable table_;
  registry::VmRegistry registry_{10};
  std::vector<std::string> violations_;
  Permits permits_{journal_, table_, registry_,
                   [this](const std::string& vm_id, const port::Permit& permit) {
                     EXPECT_FALSE(permit.granted);
                     violations_.push_back(vm_id);
                   }};
  ScriptedPort* port_ = nullptr;  // the VM's
};

TEST_F(PermitsTest, NoneIsGivenWhileAHandoffBegins) {
  const auto vm = Register(false);
  {
    const Permits::Hold hold(permits_, "vm");
    permits_.Send("vm");
    EXPECT_FALSE(port_->sent.back().granted);
    EXPECT_TRUE(permits_.OutsideOfHandoffs(*vm).granted);
  }
  permits_.Send("vm");
  EXPECT_TRUE(port_->sent.back().granted);
  {
    Permits::Hold hold(permits_, "vm");
    hold.KeepForGood();
  }
  EXPECT_FALSE(permits_.StandingOf(*vm).permit.granted);
}

TEST_F(PermitsTest, WithoutAJournalNoneIsGivenAndNoneTakenFromWhoRuns) {
  journal_.reason = "the disk is broken";
  const auto paused = Register(false);
  permits_.Send(*paused);
  EXPECT_FALSE(port_->sent.back().granted);
  EXPECT_EQ(port_->sent.back().reason, "the disk is broken");
  registry_.Remove(*paused);
  const auto runs = Register(false, /*runs=*/true);
  permits_.Send(*runs);
  EXPECT_THAT(port_->sent, IsEmpty());
}

TEST_F(PermitsTest, AVmThatRunsWithoutOneIsReportedOncePerTimeThatItDoes) {
  const auto vm = Register(true);
  permits_.LookForViolations();
  EXPECT_THAT(violations_, IsEmpty());
  port_->running = true;
  permits_.LookForViolations();
  permits_.LookForViolations();
  EXPECT_THAT(violations_, ElementsAre("vm"));
  {
    // Somebody operates on it, so it cannot be asked: it is no news afterwards.
    const auto lease = registry_.Lease("vm");
    permits_.LookForViolations();
  }
  permits_.LookForViolations();
  EXPECT_THAT(violations_, ElementsAre("vm"));
  port_->running = false;
  permits_.LookForViolations();
  port_->running = true;
  permits_.LookForViolations();
  EXPECT_THAT(violations_, ElementsAre("vm", "vm"));
}

}  // namespace
}  // namespace tsc_handoff::handoff
