#include "server/peer/grpc_peer_prober.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/base/unique_fd.h"
#include "server/peer/probed_agent.h"

namespace tsc_handoff::peer {
namespace {

namespace v1 = tschandoff::v1;

constexpr uint32_t kKhz = 2'600'000;
constexpr int64_t kMs = 1'000'000;
// Far more than a probe on one machine takes, however busy it is.
constexpr int64_t kPlentyNs = 30'000 * kMs;
// For what cannot succeed.
constexpr int64_t kLittleNs = 100 * kMs;
constexpr std::chrono::seconds kGenerous{30};

void ExpectUnreachable(const absl::Status& status, const std::string& address,
                       const std::string& why) {
  EXPECT_EQ(ReasonOf(status), Reason::kPeerUnreachable) << status;
  EXPECT_EQ(MetadataOf(status)["peer"], address);
  EXPECT_NE(status.message().find("the agent at " + address), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find(why), absl::string_view::npos) << status;
}

class GrpcPeerProberTest : public testing::Test {
 protected:
  // An agent on this machine; its address.
  std::string Start(ProbedAgent& agent, const std::string& host = "127.0.0.1") {
    int port = 0;
    EXPECT_TRUE(agent.Listen(host + ":0", &port));
    return host + ":" + std::to_string(port);
  }

  clock::LinuxHostClock host_clock_;
  GrpcPeerProber prober_{host_clock_, kKhz, WithoutTls()};
};

TEST_F(GrpcPeerProberTest, KeepsAllRoundsInOrder) {
  ProbedAgent agent;
  const uint64_t before_ticks = host_clock_.ReadTsc();
  const auto answers = prober_.Probe(Start(agent), kPlentyNs);
  uint64_t last_ticks = before_ticks;
  ASSERT_TRUE(answers.ok()) << answers.status();
  ASSERT_EQ(answers->rounds.size(), size_t{GrpcPeerProber::kRounds});
  for (int i = 0; i < GrpcPeerProber::kRounds; ++i) {
    SCOPED_TRACE(i);
    const time::ProbeRound& round = answers->rounds[static_cast<size_t>(i)];
    const v1::ProbeClockResponse expected = GoodAnswer(i);
    EXPECT_EQ(round.peer_received.host_tsc_ticks, expected.received().host_tsc_ticks());
    EXPECT_EQ(round.peer_received.realtime_ns, expected.received().realtime_ns());
    EXPECT_EQ(round.peer_received.read_error_ns, 1'000 * i + 3);
    EXPECT_EQ(round.peer_sent.host_tsc_ticks, expected.sent().host_tsc_ticks());
    EXPECT_EQ(round.peer_sent.realtime_ns, expected.sent().realtime_ns());
    EXPECT_EQ(round.peer_sent.read_error_ns, 1'000 * i + 6);
    // This host's readings enclose the call.
    EXPECT_GT(round.sent.host_tsc_ticks, last_ticks);
    EXPECT_GT(round.received.host_tsc_ticks, round.sent.host_tsc_ticks);
    EXPECT_GT(round.sent.realtime_ns, 0);
    EXPECT_GT(round.sent.read_error_ns, 0);
    last_ticks = round.received.host_tsc_ticks;
  }
  EXPECT_LT(last_ticks, host_clock_.ReadTsc());
}

TEST_F(GrpcPeerProberTest, SaysWhoAnsweredAndWhatItClaimedLast) {
  ProbedAgent agent;
  const auto answers = prober_.Probe(Start(agent), kPlentyNs);
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ(answers->boot_id, std::string(16, 'b'));
  EXPECT_EQ(answers->peer_khz, 3'100'000u);
  constexpr int kLast = GrpcPeerProber::kRounds - 1;
  EXPECT_TRUE(answers->claim.trusted);
  EXPECT_EQ(answers->claim.source, "chrony");
  EXPECT_EQ(answers->claim.error_bound_ns, 100'000 + kLast);
  EXPECT_EQ(answers->claim_realtime_ns, 1'700'000'000'000'000'000 + kLast);
}

TEST_F(GrpcPeerProberTest, AClaimThatMakesNoSenseIsNotTrusted) {
  ProbedAgent agent([](int, v1::ProbeClockResponse& response) {
    response.mutable_clock()->set_error_bound_ns(0);
    return grpc::Status::OK;
  });
  const auto answers = prober_.Probe(Start(agent), kPlentyNs);
  ASSERT_TRUE(answers.ok()) << "its readings are good: " << answers.status();
  EXPECT_FALSE(answers->claim.trusted);
}

// --- Answers that are none. Each is given in the first attempt and in the second one.

struct BadAnswer {
  const char* name;
  ProbedAgent::Script script;
  const char* why;
};

class BadAnswerTest : public GrpcPeerProberTest, public testing::WithParamInterface<BadAnswer> {};

TEST_P(BadAnswerTest, IsAPeerThatCannotBeProbed) {
  ProbedAgent agent(GetParam().script);
  const std::string address = Start(agent);
  const auto answers = prober_.Probe(address, kPlentyNs);
  ExpectUnreachable(answers.status(), address, GetParam().why);
}

// Changes every answer, or from the second round on of every attempt.
template <typename Change>
ProbedAgent::Script Every(Change change) {
  return [change](int, v1::ProbeClockResponse& response) {
    change(response);
    return grpc::Status::OK;
  };
}
template <typename Change>
ProbedAgent::Script EverySecond(Change change) {
  return [change](int call, v1::ProbeClockResponse& response) {
    if (call % 2 == 1) change(response);
    return grpc::Status::OK;
  };
}
ProbedAgent::Script Fail(grpc::StatusCode code, const std::string& message) {
  return [=](int, v1::ProbeClockResponse&) { return grpc::Status(code, message); };
}

constexpr const char* kWhichHost = "it does not say which host it is on";
constexpr const char* kDifferentHosts = "its answers come from different hosts";
constexpr const char* kReadings = "its readings of its clock make no sense";

INSTANTIATE_TEST_SUITE_P(
    Identity, BadAnswerTest,
    testing::Values(
        BadAnswer{"NoBootId", Every([](auto& answer) { answer.clear_boot_id(); }), kWhichHost},
        BadAnswer{"AShortBootId",
                  Every([](auto& answer) { answer.set_boot_id(std::string(15, 'b')); }),
                  kWhichHost},
        BadAnswer{"ALongBootId",
                  Every([](auto& answer) { answer.set_boot_id(std::string(17, 'b')); }),
                  kWhichHost},
        BadAnswer{"NoFrequency", Every([](auto& answer) { answer.set_host_tsc_khz(0); }),
                  kWhichHost},
        BadAnswer{"AFrequencyThatIsLost",
                  EverySecond([](auto& answer) { answer.set_host_tsc_khz(0); }), kWhichHost},
        BadAnswer{"ABootIdThatChanges",
                  EverySecond([](auto& answer) { answer.set_boot_id(std::string(16, 'c')); }),
                  kDifferentHosts},
        BadAnswer{"AFrequencyThatChanges",
                  EverySecond([](auto& answer) { answer.set_host_tsc_khz(3'100'001); }),
                  kDifferentHosts}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Readings, BadAnswerTest,
    testing::Values(
        BadAnswer{"NoneOnArrival", Every([](auto& answer) { answer.clear_received(); }), kReadings},
        BadAnswer{"NoneBeforeItLeft", Every([](auto& answer) { answer.clear_sent(); }), kReadings},
        BadAnswer{"AWallClockOfZero",
                  EverySecond([](auto& answer) { answer.mutable_sent()->set_realtime_ns(0); }),
                  kReadings},
        BadAnswer{"AWallClockBeforeTheEpoch",
                  Every([](auto& answer) { answer.mutable_received()->set_realtime_ns(-1); }),
                  kReadings},
        BadAnswer{"AnErrorBeyondInt64", Every([](auto& answer) {
                    answer.mutable_received()->set_read_error_ns(uint64_t{1} << 63);
                  }),
                  kReadings},
        BadAnswer{"AMessageThatIsTooLarge", Every([](auto& answer) {
                    answer.mutable_clock()->set_source(std::string(17 * 1024, 'x'));
                  }),
                  "larger than max"}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Errors, BadAnswerTest,
    testing::Values(BadAnswer{"AnErrorWithASentence",
                              Fail(grpc::StatusCode::FAILED_PRECONDITION, "its TSC is unstable"),
                              "its TSC is unstable"},
                    BadAnswer{"AnErrorWithoutASentence", Fail(grpc::StatusCode::INTERNAL, ""),
                              "gRPC code 13"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST_F(GrpcPeerProberTest, AnAgentWithoutProbeClock) {
  v1::TscAgent::Service older;  // knows no method
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&older);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const std::string address = "127.0.0.1:" + std::to_string(port);
  ExpectUnreachable(prober_.Probe(address, kPlentyNs).status(), address,
                    "it does not know ProbeClock");
}

// --- What a second attempt mends.

TEST_F(GrpcPeerProberTest, ASingleErrorIsOvercome) {
  ProbedAgent agent([](int call, v1::ProbeClockResponse&) {
    return call == 3 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "once") : grpc::Status::OK;
  });
  const auto answers = prober_.Probe(Start(agent), kPlentyNs);
  ASSERT_TRUE(answers.ok()) << answers.status();
  ASSERT_EQ(answers->rounds.size(), size_t{GrpcPeerProber::kRounds});
  EXPECT_EQ(answers->rounds[0].peer_received.realtime_ns, GoodAnswer(4).received().realtime_ns())
      << "all rounds are of one attempt";
}

TEST_F(GrpcPeerProberTest, AHostThatBootsMeanwhileIsProbedAnew) {
  ProbedAgent agent([](int call, v1::ProbeClockResponse& response) {
    if (call >= 3) response.set_boot_id(std::string(16, 'c'));
    return grpc::Status::OK;
  });
  const auto answers = prober_.Probe(Start(agent), kPlentyNs);
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ(answers->boot_id, std::string(16, 'c'));
  ASSERT_EQ(answers->rounds.size(), size_t{GrpcPeerProber::kRounds});
  EXPECT_EQ(answers->rounds[0].peer_received.realtime_ns, GoodAnswer(4).received().realtime_ns())
      << "no reading of the boot before";
}

TEST_F(GrpcPeerProberTest, AnAgentThatIsStartedAnewIsProbedAgain) {
  auto before = std::make_unique<ProbedAgent>();
  const std::string address = Start(*before);
  ASSERT_TRUE(prober_.Probe(address, kPlentyNs).ok());
  before.reset();
  ProbedAgent after([](int, v1::ProbeClockResponse& response) {
    response.set_boot_id(std::string(16, 'c'));
    return grpc::Status::OK;
  });
  int port = 0;
  ASSERT_TRUE(after.Listen(address, &port)) << "the port was taken meanwhile";
  const auto answers = prober_.Probe(address, kPlentyNs);
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ(answers->boot_id, std::string(16, 'c'));
}

// --- Nobody there, and no time.

// A port of this machine that is kept from others, and at which nobody listens.
class SilentPort {
 public:
  SilentPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  const std::string& address() const { return address_; }

 private:
  UniqueFd socket_;
  std::string address_;
};

TEST_F(GrpcPeerProberTest, NobodyListening) {
  const SilentPort port;
  const auto before = std::chrono::steady_clock::now();
  ExpectUnreachable(prober_.Probe(port.address(), kLittleNs).status(), port.address(), "in time");
  EXPECT_LT(std::chrono::steady_clock::now() - before, kGenerous);
}

TEST_F(GrpcPeerProberTest, AnAgentThatComesLaterIsFound) {
  auto port = std::make_unique<SilentPort>();
  const std::string address = port->address();
  EXPECT_FALSE(prober_.Probe(address, kLittleNs).ok());
  port.reset();
  ProbedAgent agent;
  int listening = 0;
  ASSERT_TRUE(agent.Listen(address, &listening)) << "the port was taken meanwhile";
  const auto answers = prober_.Probe(address, kPlentyNs);
  EXPECT_TRUE(answers.ok()) << answers.status();
}

TEST_F(GrpcPeerProberTest, AnAgentThatAnswersNothingCostsItsTimeOnly) {
  ProbedAgent agent;
  agent.FallSilent();
  const std::string address = Start(agent);
  const auto before = std::chrono::steady_clock::now();
  ExpectUnreachable(prober_.Probe(address, kLittleNs).status(), address, "in time");
  EXPECT_LT(std::chrono::steady_clock::now() - before, kGenerous);
}

TEST_F(GrpcPeerProberTest, AnAgentThatWasThereAndFallsSilent) {
  ProbedAgent agent;
  const std::string address = Start(agent);
  ASSERT_TRUE(prober_.Probe(address, kPlentyNs).ok());
  agent.FallSilent();
  ExpectUnreachable(prober_.Probe(address, kLittleNs).status(), address, "in time");
}

TEST_F(GrpcPeerProberTest, WithoutTimeItWaitsForNothing) {
  ProbedAgent agent;
  agent.FallSilent();
  const std::string address = Start(agent);
  const auto before = std::chrono::steady_clock::now();
  for (const int64_t budget_ns : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min() / 2})
    ExpectUnreachable(prober_.Probe(address, budget_ns).status(), address, "in time");
  EXPECT_LT(std::chrono::steady_clock::now() - before, kGenerous);
}

// --- Addresses.

TEST_F(GrpcPeerProberTest, AnAddressThatIsNoneIsTheRequestsFault) {
  for (const char* address : {"", "host", "unix:/run/agent.sock"}) {
    const absl::Status status = prober_.Probe(address, kPlentyNs).status();
    EXPECT_EQ(ReasonOf(status), Reason::kRequestInvalid) << status;
    EXPECT_EQ(MetadataOf(status)["field"], "peer");
  }
}

// The agent serves at a Unix socket named 5 in the directory where this process is.
TEST_F(GrpcPeerProberTest, AnAddressOpensNoUnixSocket) {
  char directory[] = "/tmp/prober.XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::filesystem::path old = std::filesystem::current_path();
  std::filesystem::current_path(directory);
  {
    ProbedAgent agent;
    int port = 0;
    ASSERT_TRUE(agent.Listen("unix:5", &port));
    EXPECT_FALSE(prober_.Probe("unix:5", kLittleNs).ok());
    EXPECT_EQ(agent.calls(), 0);
  }
  std::filesystem::current_path(old);
  std::filesystem::remove_all(directory);
}

TEST_F(GrpcPeerProberTest, HostNamesAreResolved) {
  ProbedAgent agent;
  const std::string address = Start(agent);
  const auto answers = prober_.Probe("localhost" + address.substr(address.rfind(':')), kPlentyNs);
  EXPECT_TRUE(answers.ok()) << answers.status();
}

TEST_F(GrpcPeerProberTest, Ipv6AddressesHaveBrackets) {
  ProbedAgent agent;
  int port = 0;
  if (!agent.Listen("[::1]:0", &port)) GTEST_SKIP() << "this machine has no IPv6";
  const auto answers = prober_.Probe("[::1]:" + std::to_string(port), kPlentyNs);
  EXPECT_TRUE(answers.ok()) << answers.status();
}

// More than connections are kept.
TEST_F(GrpcPeerProberTest, ManyPeersCanBeProbed) {
  ProbedAgent agent;
  int port = 0;
  ASSERT_TRUE(agent.Listen("0.0.0.0:0", &port));
  for (const int round : {1, 2}) {
    for (int i = 1; i <= 70; ++i) {
      const std::string address = "127.0.0." + std::to_string(i) + ":" + std::to_string(port);
      const auto answers = prober_.Probe(address, kPlentyNs);
      ASSERT_TRUE(answers.ok()) << "round " << round << ": " << answers.status();
    }
  }
}

TEST_F(GrpcPeerProberTest, ManyProbesAtOnce) {
  ProbedAgent agents[2];
  const std::string addresses[] = {Start(agents[0]), Start(agents[1])};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 6; ++i) {
    threads.emplace_back([this, address = addresses[i % 2]] {
      for (int k = 0; k < 5; ++k) {
        const auto answers = prober_.Probe(address, kPlentyNs);
        ASSERT_TRUE(answers.ok()) << answers.status();
        ASSERT_EQ(answers->rounds.size(), size_t{GrpcPeerProber::kRounds});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(agents[0].calls(), 15 * GrpcPeerProber::kRounds);
}

// --- This host's own clock.

// Its TSC goes backwards with each reading.
class BackwardsClock final : public clock::HostClock {
 public:
  uint64_t ReadTsc() override { return tsc_ticks_ -= 100; }
  int64_t ReadRealtimeNs() override { return real_.ReadRealtimeNs(); }
  int64_t ReadMonotonicNs() override { return real_.ReadMonotonicNs(); }
  void SleepNs(int64_t) override { ADD_FAILURE() << "a probe waits for answers only"; }

 private:
  clock::LinuxHostClock real_;
  uint64_t tsc_ticks_ = 1'000'000'000;
};

TEST_F(GrpcPeerProberTest, ATscThatGoesBackwardsIsThisHostsFault) {
  ProbedAgent agent;
  BackwardsClock backwards;
  const absl::Status status =
      GrpcPeerProber(backwards, kKhz, WithoutTls()).Probe(Start(agent), kPlentyNs).status();
  EXPECT_EQ(ReasonOf(status), Reason::kHostTscUnstable) << status;
}

}  // namespace
}  // namespace tsc_handoff::peer
