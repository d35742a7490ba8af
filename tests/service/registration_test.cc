// How VMMs come and go: registrations that are refused, VMMs that hang or lie, processes that are
// killed, agents that restart.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/service/child.h"
#include "tests/service/pair.h"
#include "tests/service/wire_peer.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

// One host whose agent has a socket for VMMs.
class Registration : public testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/tsc-reg.XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    ASSERT_NO_FATAL_FAILURE(StartNode(NodeOptions()));
  }

  void TearDown() override {
    guests_.clear();
    node_.reset();
    unlink((socket_path() + ".lock").c_str());
    unlink(socket_path().c_str());
    rmdir(directory_.c_str());
  }

  sim::SimNodeOptions NodeOptions() const {
    sim::SimNodeOptions options;
    options.agent.vmm_socket = socket_path();
    return options;
  }

  void StartNode(const sim::SimNodeOptions& options) {
    node_.reset();
    auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options);
    ASSERT_TRUE(node.ok()) << node.status();
    node_ = *std::move(node);
    client_ = ClientOf(*node_);
  }

  std::string socket_path() const { return directory_ + "/vmm.sock"; }

  size_t VmCount() {
    auto vms = client_->ListVms();
    EXPECT_TRUE(vms.ok()) << vms.status();
    return vms.ok() ? vms->size() : SIZE_MAX;
  }

  std::string directory_;
  std::unique_ptr<sim::SimNode> node_;
  std::unique_ptr<client::AgentClient> client_;
  std::vector<std::unique_ptr<sim::SimGuest>> guests_;
};

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
  options.agent.max_vms = 1;
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

TEST_F(Registration, VmmMayStartBeforeItsAgent) {
  node_->StopAgent();
  auto guest = sim::SimGuest::Make(node_->host(), Named("early"));
  ASSERT_TRUE(guest.ok()) << guest.status();
  ASSERT_TRUE((*guest)->Connect(socket_path()).ok());
  const absl::Status early = (*guest)->AwaitRegistered(absl::Milliseconds(100));
  EXPECT_THAT(std::string(early.message()), HasSubstr("is tsc-agent running?"));
  ASSERT_TRUE(node_->StartAgent().ok());
  const absl::Status registered = (*guest)->AwaitRegistered(kPatience);
  EXPECT_TRUE(registered.ok()) << registered;
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
  const absl::Time started = absl::Now();
  ExpectRefused(client_->GetTscState("vm-0").status(), StatusCode::kUnavailable, "VMM_GONE");
  EXPECT_LT(absl::Now() - started, absl::Seconds(3));
  EXPECT_TRUE(client_->GetHostInfo().ok()) << "the agent lives";
  kill(vmms.pid(), SIGCONT);
  EXPECT_TRUE(Await([&] { return client_->GetTscState("vm-0").ok(); }));
}

// ---- VMMs that speak the protocol by hand ----

TEST_F(Registration, HangingVmmIsGoneAndItsLateAnswerIsDropped) {
  WirePeer peer(socket_path());
  ASSERT_EQ(peer.Register("mute", {0, 1}), "");
  const absl::Time started = absl::Now();
  ExpectRefused(client_->GetTscState("mute").status(), StatusCode::kUnavailable, "VMM_GONE");
  EXPECT_LT(absl::Now() - started, absl::Seconds(3));
  EXPECT_TRUE(client_->GetHostInfo().ok()) << "the agent lives";

  const auto old_request = peer.Receive();
  ASSERT_TRUE(old_request.has_value());
  tsc_wire_header old_header;
  std::memcpy(&old_header, old_request->data(), sizeof(old_header));
  absl::Status answered;
  std::thread caller([&] { answered = client_->GetTscState("mute").status(); });
  const auto new_request = peer.Receive();
  ASSERT_TRUE(new_request.has_value());
  tsc_wire_header new_header;
  std::memcpy(&new_header, new_request->data(), sizeof(new_header));
  EXPECT_GT(new_header.request_id, old_header.request_id);
  WirePeer::Bytes late = WirePeer::ReadDone(old_header.request_id, {0, 1});
  WirePeer::Bytes right = WirePeer::ReadDone(new_header.request_id, {0, 1});
  EXPECT_TRUE(peer.SendBytes(late.data(), late.size()));
  EXPECT_TRUE(peer.SendBytes(right.data(), right.size()));
  caller.join();
  EXPECT_TRUE(answered.ok()) << answered;
}

TEST_F(Registration, VmmWhoseSocketIsFullIsGone) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const int smallest = 1;  // the kernel makes 4608 of it
  EXPECT_EQ(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest)), 0);
  WirePeer peer{UniqueFd(ends[1])};
  node_->agent().Adopt(UniqueFd(ends[0]));
  ASSERT_EQ(peer.Register("deaf", {0}), "");
  // Each call leaves a request in the socket; GetVm's wait is the shortest.
  bool full = false;
  for (int i = 0; i < 100 && !full && !testing::Test::HasFailure(); ++i) {
    const absl::Status status = client_->GetVm("deaf").status();
    ExpectRefused(status, StatusCode::kUnavailable, "VMM_GONE");
    full = status.message().find("does not read its socket") != absl::string_view::npos;
  }
  EXPECT_TRUE(full);
}

struct BadAnswer {
  const char* name;
  void (*spoil)(WirePeer::Bytes& answer);
};

const BadAnswer kBadAnswers[] = {
    {"nothing but a header", [](WirePeer::Bytes& b) { b.resize(sizeof(tsc_wire_header)); }},
    {"shorter than a header", [](WirePeer::Bytes& b) { b.resize(7); }},
    {"one vCPU too few",
     [](WirePeer::Bytes& b) { b.erase(b.end() - sizeof(tsc_vcpu_state), b.end()); }},
    {"one byte too many", [](WirePeer::Bytes& b) { b.push_back({}); }},
    {"longer than any answer", [](WirePeer::Bytes& b) { b.resize(4096); }},
    {"the wrong magic", [](WirePeer::Bytes& b) { b[0] = std::byte{0}; }},
    {"another version", [](WirePeer::Bytes& b) { b[4] = std::byte{9}; }},
    {"another type", [](WirePeer::Bytes& b) { b[6] = std::byte{TSC_WIRE_WRITE_DONE}; }},
    {"a request that was never made", [](WirePeer::Bytes& b) { b[15] = std::byte{1}; }},
    {"another vCPU's state",
     [](WirePeer::Bytes& b) { b[sizeof(tsc_wire_read_done)] = std::byte{77}; }},
    {"an unknown outcome",
     [](WirePeer::Bytes& b) { b[offsetof(tsc_wire_read_done, fault)] = std::byte{200}; }},
};

TEST_F(Registration, VmmThatAnswersNonsenseIsGone) {
  for (const BadAnswer& bad : kBadAnswers) {
    SCOPED_TRACE(bad.name);
    WirePeer peer(socket_path());
    ASSERT_EQ(peer.Register("liar", {0, 1}), "");
    absl::Status status;
    std::thread caller([&] { status = client_->GetTscState("liar").status(); });
    const auto request = peer.Receive();
    EXPECT_TRUE(request.has_value());
    tsc_wire_header header = {};
    if (request.has_value()) std::memcpy(&header, request->data(), sizeof(header));
    WirePeer::Bytes answer = WirePeer::ReadDone(header.request_id, {0, 1});
    bad.spoil(answer);
    EXPECT_TRUE(peer.SendBytes(answer.data(), answer.size()));
    caller.join();
    ExpectRefused(status, StatusCode::kUnavailable, "VMM_GONE");
    EXPECT_TRUE(peer.AwaitEnd()) << "the connection is ended";
    EXPECT_TRUE(Await([&] { return VmCount() == 0; })) << "the VM is forgotten";
  }
}

TEST_F(Registration, VmmThatSpeaksUnaskedIsGoneAtItsNextTurn) {
  WirePeer peer(socket_path());
  ASSERT_EQ(peer.Register("chatter", {0}), "");
  WirePeer::Bytes unasked = WirePeer::ReadDone(uint64_t{1} << 40, {0});
  EXPECT_TRUE(peer.SendBytes(unasked.data(), unasked.size()));
  ExpectRefused(client_->GetTscState("chatter").status(), StatusCode::kUnavailable, "VMM_GONE");
  EXPECT_TRUE(Await([&] { return VmCount() == 0; }));
}

struct BadRegistration {
  const char* name;
  void (*send)(WirePeer& peer);
  const char* text;
};

template <typename T>
T WithHeader(T message, uint32_t magic, uint16_t version, uint16_t type) {
  message.header = {magic, version, type, 0};
  return message;
}

const BadRegistration kBadRegistrations[] = {
    {"garbage", [](WirePeer& p) { p.Send(std::array<char, 64>{}); }, "not the protocol"},
    {"a torn header", [](WirePeer& p) { p.Send(std::array<char, 5>{}); }, "impossible length"},
    {"another version",
     [](WirePeer& p) {
       p.Send(WithHeader(WirePeer::Hello("x", 1), TSC_WIRE_MAGIC, 9, TSC_WIRE_HELLO), 1);
     },
     "version 9"},
    {"unknown type",
     [](WirePeer& p) {
       p.Send(WithHeader(WirePeer::Hello("x", 1), TSC_WIRE_MAGIC, TSC_WIRE_VERSION, 77), 1);
     },
     "out of order"},
    {"VCPUS before HELLO", [](WirePeer& p) { p.Send(WirePeer::Vcpus({0}), 1); }, "out of order"},
    {"HELLO twice",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 1), 1);
       p.Send(WirePeer::Hello("x", 1), 1);
     },
     "out of order"},
    {"HELLO without a descriptor", [](WirePeer& p) { p.Send(WirePeer::Hello("x", 1)); },
     "one descriptor"},
    {"HELLO with two", [](WirePeer& p) { p.Send(WirePeer::Hello("x", 1), 2); }, "one descriptor"},
    {"a torn HELLO",
     [](WirePeer& p) {
       const tsc_wire_hello hello = WirePeer::Hello("x", 1);
       p.SendBytes(&hello, sizeof(hello) - 1);
     },
     "one descriptor"},
    {"no id", [](WirePeer& p) { p.Send(WirePeer::Hello("", 1), 1); }, "1 to 128 characters"},
    {"an id of 129", [](WirePeer& p) { p.Send(WirePeer::Hello(std::string(129, 'x'), 1), 1); },
     "1 to 128 characters"},
    {"an id without an end",
     [](WirePeer& p) { p.Send(WirePeer::Hello(std::string(400, 'x'), 1), 1); },
     "1 to 128 characters"},
    {"a bad character", [](WirePeer& p) { p.Send(WirePeer::Hello("a/b", 1), 1); },
     "1 to 128 characters"},
    {"no vCPUs", [](WirePeer& p) { p.Send(WirePeer::Hello("x", 0), 1); }, "0 vCPUs"},
    {"too many vCPUs", [](WirePeer& p) { p.Send(WirePeer::Hello("x", 1025), 1); }, "1025 vCPUs"},
    {"more vCPUs than said",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 1), 1);
       p.Send(WirePeer::Vcpus({0, 1}), 2);
     },
     "2 vCPUs"},
    {"fewer descriptors than ids",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 2), 1);
       p.Send(WirePeer::Vcpus({0, 1}), 1);
     },
     "1 descriptors"},
    {"an empty VCPUS",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 2), 1);
       p.Send(WirePeer::Vcpus({}));
     },
     "0 vCPUs"},
    {"a count beyond the array",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 1000), 1);
       tsc_wire_vcpus vcpus = WirePeer::Vcpus({0});
       vcpus.count = 999;
       p.Send(vcpus, 1);
     },
     "999 vCPUs"},
    {"a torn VCPUS",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 1), 1);
       const tsc_wire_vcpus vcpus = WirePeer::Vcpus({0});
       p.SendBytes(&vcpus, sizeof(vcpus) - 4);
     },
     "wrong length"},
    {"more descriptors than a message may have",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 1000), 1);
       p.Send(WirePeer::Vcpus(sim::DenseIds(250)), 251);
     },
     "too many descriptors"},
    {"descending ids",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 2), 1);
       p.Send(WirePeer::Vcpus({1, 0}), 2);
     },
     "not above the one before"},
    {"an id twice over two messages",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 2), 1);
       p.Send(WirePeer::Vcpus({4}), 1);
       p.Send(WirePeer::Vcpus({4}), 1);
     },
     "not above the one before"},
    {"an id above 4095",
     [](WirePeer& p) {
       p.Send(WirePeer::Hello("x", 1), 1);
       p.Send(WirePeer::Vcpus({4096}), 1);
     },
     "above 4095"},
};

TEST_F(Registration, WrongOnesAreRefusedInASentence) {
  for (const BadRegistration& bad : kBadRegistrations) {
    SCOPED_TRACE(bad.name);
    WirePeer peer(socket_path());
    bad.send(peer);
    EXPECT_THAT(peer.AwaitRefusal(), HasSubstr(bad.text));
  }
  EXPECT_EQ(VmCount(), 0u);
}

TEST_F(Registration, UnfinishedOnesAreRefusedAfterAWhileAndDoNotHoldUpOthers) {
  WirePeer slow(socket_path());
  EXPECT_TRUE(slow.Send(WirePeer::Hello("slow", 2), 1));
  EXPECT_TRUE(slow.Send(WirePeer::Vcpus({0}), 1));
  WirePeer quick(socket_path());
  EXPECT_EQ(quick.Register("quick", {0}), "");
  EXPECT_THAT(slow.AwaitRefusal(), HasSubstr("not complete in time"));
}

TEST_F(Registration, TooManyAtOnceAreRefused) {
  std::vector<std::unique_ptr<WirePeer>> waiting;
  for (int i = 0; i < 64; ++i) waiting.push_back(std::make_unique<WirePeer>(socket_path()));
  WirePeer one_more(socket_path());
  EXPECT_THAT(one_more.AwaitRefusal(), HasSubstr("too many VMMs are registering at once"));
  waiting.clear();
  EXPECT_TRUE(Await([&] { return WirePeer(socket_path()).Register("after", {0}).empty(); }));
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
