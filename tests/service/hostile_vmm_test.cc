// VMMs that speak the protocol by hand, and wrongly: registrations that are refused, VMMs that hang
// or lie.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
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
    {"unknown flags",
     [](WirePeer& p) {
       tsc_wire_hello hello = WirePeer::Hello("x", 1);
       hello.flags = TSC_WIRE_AWAITS_HANDOFF | 4;
       p.Send(hello, 1);
     },
     "HELLO has flags 5"},
    {"a HELLO as version 1 had it",
     [](WirePeer& p) {
       tsc_wire_hello hello = WirePeer::Hello("x", 1);
       hello.header.version = 1;
       p.SendBytes(&hello, 152, std::vector<int>(1, STDIN_FILENO));
     },
     "the VMM speaks version 1 of the protocol, this agent 2; link the tsc_vmm library of"},
    {"a HELLO of version 1's length",
     [](WirePeer& p) {
       const tsc_wire_hello hello = WirePeer::Hello("x", 1);
       p.SendBytes(&hello, 152, std::vector<int>(1, STDIN_FILENO));
     },
     "wrong length"},
    {"a torn HELLO",
     [](WirePeer& p) {
       const tsc_wire_hello hello = WirePeer::Hello("x", 1);
       p.SendBytes(&hello, sizeof(hello) - 1);
     },
     "wrong length"},
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

// Late answers are dropped one by one; no number of them keeps a call from ending in time.
TEST_F(Registration, VmmThatFloodsWithLateAnswersIsGoneInTime) {
  WirePeer peer(socket_path());
  ASSERT_EQ(peer.Register("flood", {0}), "");
  ExpectRefused(client_->GetTscState("flood").status(), StatusCode::kUnavailable, "VMM_GONE");
  std::atomic<bool> stop{false};
  std::thread flood([&] {
    const WirePeer::Bytes late = WirePeer::ReadDone(1, {0});
    while (!stop && peer.SendBytes(late.data(), late.size())) {
    }
  });
  const absl::Time started = absl::Now();
  ExpectRefused(client_->GetTscState("flood").status(), StatusCode::kUnavailable, "VMM_GONE");
  EXPECT_LT(absl::Now() - started, absl::Seconds(3));
  EXPECT_TRUE(client_->GetHostInfo().ok()) << "the agent lives";
  stop = true;
  node_->StopAgent();  // also ends a send that waits
  flood.join();
}

TEST_F(Registration, VmmThatGoesOnRegisteringHoldsUpNobody) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  ASSERT_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
  WirePeer peer{UniqueFd(ends[1])};
  node_->agent().Adopt(UniqueFd(ends[0]));
  EXPECT_TRUE(peer.Send(WirePeer::Hello("flood", 50), 1));
  for (uint32_t id = 0; id < 50; ++id)
    EXPECT_TRUE(Await([&] { return peer.Send(WirePeer::Vcpus({id}), 1); }));
  EXPECT_TRUE(Await([&] { return VmCount() == 1; }));
  while (peer.Send(WirePeer::Vcpus({50}), 1)) {  // until the socket is full
  }
  WirePeer quick(socket_path());
  EXPECT_EQ(quick.Register("quick", {0}), "");
  ExpectRefused(client_->GetTscState("flood").status(), StatusCode::kUnavailable, "VMM_GONE");
}

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

TEST_F(Registration, AgentWithoutDescriptorsSaysSoAndRecovers) {
  const std::string path = directory_ + "/small.sock";
  const std::string journal = directory_ + "/journal";
  mkdir(journal.c_str(), 0700);
  Child agent({"tests/sim_agent/sim_agent", "--role", "agent", "--host",
               "vmx:2100000:journal=" + journal + "/journal.db", "--vmm-socket", path});
  ASSERT_THAT(agent.ReadLine(), HasSubstr("\"ready\""));
  const rlimit limit = {100, 100};
  ASSERT_EQ(prlimit(agent.pid(), RLIMIT_NOFILE, &limit, nullptr), 0) << strerror(errno);
  std::vector<std::unique_ptr<WirePeer>> peers;
  std::string refusal;
  for (int i = 0; i < 100 && refusal.empty(); ++i) {
    peers.push_back(std::make_unique<WirePeer>(path));
    refusal = peers.back()->Register(absl::StrCat("vm-", i), {0});
  }
  EXPECT_THAT(refusal, HasSubstr("out of descriptors"));
  peers.clear();
  EXPECT_TRUE(Await([&] { return WirePeer(path).Register("after", {0}).empty(); }));
  agent.Kill();
  unlink(path.c_str());
  unlink((path + ".lock").c_str());
  std::filesystem::remove_all(journal);
}

}  // namespace
}  // namespace tsc_handoff
