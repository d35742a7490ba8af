// How VMMs come and go: registrations, processes that are killed, agents that restart, and the
// socket's path.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/service/child.h"
#include "tests/service/pair.h"
#include "tests/service/registration.h"
#include "tests/service/wire_peer.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

TEST_F(Registration, OverTheSocketShowsTheVmmsIdentity) {
  auto guest = node_->AddGuest(Named("a.b:c_d-1", 600), false);
  ASSERT_TRUE(guest.ok()) << guest.status();
  const auto vm = client_->GetVm("a.b:c_d-1");
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->vcpu_count(), 600u);
  EXPECT_EQ(vm->vmm_pid(), getpid());
  EXPECT_EQ(vm->vmm_uid(), getuid());
  EXPECT_EQ(vm->port(), v1::Vm::PORT_COOPERATIVE);
  EXPECT_GT(vm->registered_at_ns(), 0);
  EXPECT_TRUE(client_->GetTscState("a.b:c_d-1").ok());
}

TEST_F(Registration, SocketIsForUserAndGroupOnly) {
  struct stat info = {};
  ASSERT_EQ(stat(socket_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
}

TEST_F(Registration, InOrderOfIdsAndByPages) {
  for (const char* id : {"vm-b", "vm-a", "vm-c"}) {
    auto guest = node_->AddGuest(Named(id));
    ASSERT_TRUE(guest.ok()) << guest.status();
    guests_.push_back(*std::move(guest));
  }
  const auto vms = client_->ListVms();
  ASSERT_TRUE(vms.ok()) << vms.status();
  ASSERT_EQ(vms->size(), 3u);
  EXPECT_EQ((*vms)[0].vm_id(), "vm-a");
  EXPECT_EQ((*vms)[2].vm_id(), "vm-c");
  EXPECT_EQ((*vms)[0].port(), v1::Vm::PORT_IN_PROCESS);
}

TEST_F(Registration, IdThatIsTakenIsRefusedAndTheFirstStays) {
  auto first = node_->AddGuest(Named("twin"), false);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = node_->AddGuest(Named("twin"), false);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("twin is taken by process"));
  EXPECT_TRUE(client_->GetTscState("twin").ok());
  // The second one tries on, and comes in when the first has gone.
  (*first)->Disconnect();
  auto third = node_->AddGuest(Named("twin"), false);
  EXPECT_TRUE(third.ok() || Await([&] {
                third = node_->AddGuest(Named("twin"), false);
                return third.ok();
              }))
      << third.status();
}

TEST_F(Registration, MoreVmsThanTheLimitAreRefused) {
  sim::SimNodeOptions options = NodeOptions();
  options.agent.serving.max_vms = 1;
  ASSERT_NO_FATAL_FAILURE(StartNode(options));
  auto first = node_->AddGuest(Named("one"));
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = node_->AddGuest(Named("two"));
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("at most 1 VMs"));
}

TEST_F(Registration, VmThatLeavesInGoodOrderIsForgotten) {
  auto guest = node_->AddGuest(Named("leaver"), false);
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_EQ(VmCount(), 1u);
  (*guest)->Disconnect();
  EXPECT_TRUE(Await([&] { return VmCount() == 0; }));
  ExpectRefused(client_->GetVm("leaver").status(), StatusCode::kNotFound, "VM_NOT_FOUND");
}

TEST_F(Registration, AgentThatRestartsFindsItsVmsAgain) {
  sim::SimGuestOptions options;
  options.vm_id = "survivor";
  options.vcpu_ids = {0, 3};
  options.phase_ticks = {0, 77};
  auto guest = node_->AddGuest(options, false);
  ASSERT_TRUE(guest.ok()) << guest.status();
  const std::vector<uint64_t> offsets = (*guest)->Offsets();
  node_->StopAgent();
  ASSERT_TRUE(node_->StartAgent().ok());
  client_ = ClientOf(*node_);
  EXPECT_TRUE(Await([&] { return VmCount() == 1; }));
  const auto captured = client_->GetTscState("survivor");
  ASSERT_TRUE(captured.ok()) << captured.status();
  EXPECT_EQ(captured->summary().phase_spread_ticks(), 77u);
  EXPECT_EQ((*guest)->Offsets(), offsets);
}

TEST_F(Registration, GivesThePermitToRunUnlessAHandoffIsAwaited) {
  WirePeer ordinary(socket_path());
  ASSERT_EQ(ordinary.Register("ordinary", {0}), "");
  EXPECT_EQ(ordinary.first_permit().granted, 1u);
  EXPECT_EQ(ordinary.first_permit().epoch, 0u);
  EXPECT_STREQ(ordinary.first_permit().text, "");
  WirePeer destination(socket_path());
  ASSERT_EQ(destination.Register("destination", {0}, TSC_WIRE_AWAITS_HANDOFF), "");
  EXPECT_EQ(destination.first_permit().granted, 0u);
  EXPECT_THAT(destination.first_permit().text, HasSubstr("it awaits a handoff"));
}

TEST_F(Registration, DestinationIsNotResumedBeforeItsHandoff) {
  sim::SimGuestOptions options = Named("destination");
  options.awaits_handoff = true;
  auto guest = node_->AddGuest(options, false);
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_THAT(std::string((*guest)->MayRun().message()), HasSubstr("it awaits a handoff"));
  const absl::Status resumed = (*guest)->Resume();
  EXPECT_EQ(resumed.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(resumed.message()), HasSubstr("it awaits a handoff"));
  EXPECT_TRUE(client_->GetTscState("destination").ok()) << "it is paused";
}

TEST_F(Registration, ShowsWhetherTheVmRuns) {
  WirePeer paused(socket_path());
  ASSERT_EQ(paused.Register("a-paused", {0}), "");
  WirePeer running(socket_path());
  ASSERT_EQ(running.Register("b-running", {0}, TSC_WIRE_IS_RUNNING), "");
  const auto vms = client_->ListVms();
  ASSERT_TRUE(vms.ok()) << vms.status();
  ASSERT_EQ(vms->size(), 2u);
  EXPECT_EQ((*vms)[0].run_state(), v1::Vm::RUN_STATE_PAUSED);
  EXPECT_EQ((*vms)[1].run_state(), v1::Vm::RUN_STATE_RUNNING);
}

TEST_F(Registration, VmRunsOnOverItsAgentsDeath) {
  auto guest = node_->AddGuest(Named("runner"), false);
  ASSERT_TRUE(guest.ok()) << guest.status();
  ASSERT_TRUE((*guest)->Resume().ok());
  node_->StopAgent();
  (*guest)->Pause();
  const absl::Status without = (*guest)->Resume();
  EXPECT_TRUE(without.ok()) << without;
  ASSERT_TRUE(node_->StartAgent().ok());
  client_ = ClientOf(*node_);
  EXPECT_TRUE(Await([&] { return VmCount() == 1; }));
  ExpectRefused(client_->GetTscState("runner").status(), StatusCode::kFailedPrecondition,
                "VM_RUNNING");
  (*guest)->Pause();
  EXPECT_TRUE(client_->GetTscState("runner").ok());
  const absl::Status again = (*guest)->Resume();
  EXPECT_TRUE(again.ok()) << again;
}

TEST_F(Registration, VmmMayStartBeforeItsAgent) {
  node_->StopAgent();
  auto guest = sim::SimGuest::Make(node_->host(), Named("early"));
  ASSERT_TRUE(guest.ok()) << guest.status();
  ASSERT_TRUE((*guest)->Connect(socket_path()).ok());
  const absl::Status early = (*guest)->AwaitRegistered(absl::Milliseconds(100));
  EXPECT_THAT(std::string(early.message()), HasSubstr("is tsc-agent running?"));
  EXPECT_THAT(std::string((*guest)->Resume().message()), HasSubstr("no agent has said yet"));
  ASSERT_TRUE(node_->StartAgent().ok());
  const absl::Status registered = (*guest)->AwaitRegistered(kPatience);
  EXPECT_TRUE(registered.ok()) << registered;
  EXPECT_TRUE((*guest)->Resume().ok());
}

// ---- VMMs in processes of their own ----

TEST_F(Registration, KilledVmmIsForgotten) {
  Child vmms({"tests/sim_agent/sim_agent", "--role", "vmms", "--host", "vmx:2100000", "--vms", "3",
              "--vcpus", "2", "--vmm-socket", socket_path()});
  ASSERT_THAT(vmms.ReadLine(), HasSubstr("\"registered\""));
  const auto vm = client_->GetVm("vm-1");
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->vmm_pid(), vmms.pid());
  vmms.Kill();
  EXPECT_TRUE(Await([&] { return VmCount() == 0; }));
}

TEST_F(Registration, VmmKilledInTheMiddleOfAnApplyIsSaid) {
  // Of 4 vCPUs; by turns at an offset, at the MSRs, at kvmclock.
  for (const char* nth : {"3", "6", "9"}) {
    Child vmms({"tests/sim_agent/sim_agent", "--role", "vmms", "--host", "vmx:2100000", "--vcpus",
                "4", "--vmm-socket", socket_path(), "--die-at-write", nth});
    ASSERT_THAT(vmms.ReadLine(), HasSubstr("\"registered\""));
    const auto captured = client_->GetTscState("vm-0");
    ASSERT_TRUE(captured.ok()) << captured.status();
    v1::SetTscStateRequest request;
    request.set_vm_id("vm-0");
    request.set_mode(v1::APPLY_MODE_EXACT);
    *request.mutable_state() = captured->state();
    ExpectRefused(client_->SetTscState(request).status(), StatusCode::kUnavailable, "VMM_GONE");
    EXPECT_TRUE(Await([&] { return VmCount() == 0; }));
    EXPECT_EQ(vmms.Wait(), -SIGKILL);
  }
}

TEST_F(Registration, StoppedVmmHangsAndIsServedAgainWhenItGoesOn) {
  Child vmms({"tests/sim_agent/sim_agent", "--role", "vmms", "--host", "vmx:2100000",
              "--vmm-socket", socket_path()});
  ASSERT_THAT(vmms.ReadLine(), HasSubstr("\"registered\""));
  kill(vmms.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(waitpid(vmms.pid(), &status, WUNTRACED), vmms.pid());
  ASSERT_TRUE(WIFSTOPPED(status));
  const absl::Time started = absl::Now();
  ExpectRefused(client_->GetTscState("vm-0").status(), StatusCode::kUnavailable, "VMM_GONE");
  EXPECT_LT(absl::Now() - started, absl::Seconds(3));
  EXPECT_TRUE(client_->GetHostInfo().ok()) << "the agent lives";
  kill(vmms.pid(), SIGCONT);
  EXPECT_TRUE(Await([&] { return client_->GetTscState("vm-0").ok(); }));
}

// ---- the socket's path ----

absl::Status StartWith(const std::string& vmm_socket) {
  sim::SimNodeOptions options;
  options.agent.vmm_socket = vmm_socket;
  return sim::SimNode::Start(std::make_shared<sim::SimTime>(), options).status();
}

TEST_F(Registration, SecondAgentOnTheSocketDoesNotStartAndTheFirstGoesOn) {
  const absl::Status second = StartWith(socket_path());
  EXPECT_THAT(std::string(second.message()), HasSubstr("another tsc-agent already serves"));
  EXPECT_TRUE(node_->AddGuest(Named("still"), false).ok());
}

TEST_F(Registration, SocketPathThatIsTooLongIsRefused) {
  const absl::Status status = StartWith(directory_ + "/" + std::string(108, 'x'));
  EXPECT_THAT(std::string(status.message()), HasSubstr("a Unix socket's path has 1 to 107"));
}

TEST_F(Registration, PathThatIsNoSocketIsNotTouched) {
  const std::string path = directory_ + "/precious";
  { UniqueFd file(open(path.c_str(), O_CREAT | O_WRONLY, 0600)); }
  const absl::Status status = StartWith(path);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is no socket; remove it"));
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  unlink(path.c_str());
  unlink((path + ".lock").c_str());
}

TEST_F(Registration, DirectoryIsMadeButNotItsParents) {
  const std::string made = directory_ + "/made";
  EXPECT_TRUE(StartWith(made + "/vmm.sock").ok());
  EXPECT_EQ(access(made.c_str(), F_OK), 0);
  const absl::Status status = StartWith(directory_ + "/missing/missing/vmm.sock");
  EXPECT_THAT(std::string(status.message()), HasSubstr("does the directory exist"));
  unlink((made + "/vmm.sock.lock").c_str());
  rmdir(made.c_str());
}

TEST_F(Registration, StaleSocketIsReplaced) {
  const std::string path = directory_ + "/stale.sock";
  {
    // Bound and never unlinked: what a killed agent leaves behind.
    UniqueFd dead(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  sim::SimNodeOptions options;
  options.agent.vmm_socket = path;
  auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options);
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_TRUE((*node)->AddGuest(Named("fresh"), false).ok());
  node->reset();
  EXPECT_NE(access(path.c_str(), F_OK), 0) << "removed at the end";
  unlink((path + ".lock").c_str());
}

}  // namespace
}  // namespace tsc_handoff
