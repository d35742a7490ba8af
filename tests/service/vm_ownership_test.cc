// Whose VM an id is: VMMs of several users at the real socket.
#include <gmock/gmock.h>
#include <sys/syscall.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/service/guarded.h"
#include "tests/service/wire_peer.h"

namespace tsc_handoff {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const User kLibvirt{61101, 61101};
const User kIntruder{61102, 61102};

class VmOwnership : public Guarded {
 protected:
  WirePeer Vmm(const User& user) {
    return WirePeer(ConnectAs(user, path("vmm.sock"), SOCK_SEQPACKET));
  }

  bool IsRegistered(const std::string& vm_id) {
    const auto vms = As(kViewer).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest());
    if (!vms.ok()) return false;
    for (const v1::Vm& vm : vms->vms()) {
      if (vm.vm_id() == vm_id) return true;
    }
    return false;
  }
};

TEST_F(VmOwnership, AnIdStaysItsUsersWhileTheVmIsThereAndAfterwards) {
  ASSERT_NO_FATAL_FAILURE(Start());
  {
    WirePeer vmm = Vmm(kLibvirt);
    ASSERT_EQ(vmm.Register("db-7", {0}), "");
    const std::string said = Vmm(kIntruder).Register("db-7", {0});
    EXPECT_THAT(said, HasSubstr("the VM id db-7 is of uid 61101"));
  }
  ASSERT_TRUE(Await([&] { return !IsRegistered("db-7"); }));
  EXPECT_THAT(Vmm(kIntruder).Register("db-7", {0}), HasSubstr("uid 61102 may not take it over"));
  EXPECT_EQ(Vmm(kIntruder).Register("db-8", {0}), "") << "another id is free";
  EXPECT_EQ(Vmm(kLibvirt).Register("db-7", {0}), "");
  const json refused = json::parse(AuditLines().back());
  EXPECT_EQ(refused["who"], "uid 61102");
  EXPECT_EQ(refused["vm"], "db-7");
}

TEST_F(VmOwnership, RootMayRegisterAny) {
  ASSERT_NO_FATAL_FAILURE(Start());
  { ASSERT_EQ(Vmm(kLibvirt).Register("db-7", {0}), ""); }
  ASSERT_TRUE(Await([&] { return !IsRegistered("db-7"); }));
  EXPECT_EQ(Vmm(kRoot).Register("db-7", {0}), "");
}

// The agent has forgotten everything but its journal.
TEST_F(VmOwnership, AHandoffKeepsTheIdItsUsersOverARestart) {
  ASSERT_NO_FATAL_FAILURE(Start());
  {
    auto guest = sim::SimGuest::Make(node_->host(), Named("db-7"));
    ASSERT_TRUE(guest.ok()) << guest.status();
    // Its VMM is of another user as far as the agent can see.
    std::thread([&] {
      ASSERT_EQ(syscall(SYS_setresuid, -1, kLibvirt.uid, -1), 0);
      ASSERT_TRUE((*guest)->Connect(path("vmm.sock")).ok());
    }).join();
    ASSERT_TRUE((*guest)->AwaitRegistered(absl::Seconds(20)).ok());
    ASSERT_NO_FATAL_FAILURE(Capture("db-7", "h-1"));
    (*guest)->Disconnect();
  }
  node_->StopAgent();
  ASSERT_TRUE(node_->StartAgent().ok());
  OpenSockets();
  EXPECT_THAT(Vmm(kIntruder).Register("db-7", {0}), HasSubstr("the VM id db-7 is of uid 61101"));
  EXPECT_EQ(Vmm(kLibvirt).Register("db-7", {0}), "");
  v1::AbortHandoffRequest abort;
  abort.set_handoff_id("h-1");
  abort.set_side(v1::Handoff::SIDE_SOURCE);
  EXPECT_TRUE(As(kRoot).Call<v1::AbortHandoffResponse>("AbortHandoff", abort).ok());
}

TEST_F(VmOwnership, APolicySaysWhichUserMayRegisterWhat) {
  options_.agent.policy = PolicyOf(R"(
bindings:
  - {role: viewer, users: 61002}
  - {role: vmm, users: 61101, vms: "db-*"}
)");
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_EQ(Vmm(kLibvirt).Register("db-7", {0}), "");
  EXPECT_THAT(Vmm(kLibvirt).Register("web-1", {0}), HasSubstr("no binding of role vmm"));
  EXPECT_THAT(Vmm(kIntruder).Register("db-8", {0}), HasSubstr("no binding of role vmm"));
  EXPECT_EQ(Vmm(kRoot).Register("web-1", {0}), "");
}

}  // namespace
}  // namespace tsc_handoff
