// What the agent serves beside its own API, and where it does not start: health, reflection,
// metrics, limits on messages, addresses.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/unique_fd.h"
#include "tests/service/pair.h"
#include "tests/service/raw_rpc.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using testing::Not;

// HTTP/1.0, so that the answer ends with the connection.
std::string HttpGet(int port, const std::string& path) {
  const UniqueFd socket_fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    return "(no connection)";
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
  if (send(socket_fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return "(not sent)";
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = recv(socket_fd.get(), buffer, sizeof(buffer), 0)) > 0;)
    answer.append(buffer, static_cast<size_t>(n));
  return answer;
}

// A length-delimited protobuf field of less than 128 bytes.
std::string Field(int number, const std::string& value) {
  std::string bytes;
  bytes += static_cast<char>(number << 3 | 2);
  bytes += static_cast<char>(value.size());
  return bytes + value;
}

TEST(Health, SaysServingForTheAgentAndAsAWhole) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  for (const std::string& service : {std::string(), std::string("tschandoff.v1.TscAgent")}) {
    const auto answer =
        RawUnary(pair.to->target(), "/grpc.health.v1.Health/Check", Field(1, service));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(*answer, std::string("\x08\x01", 2)) << "status: SERVING";
  }
  EXPECT_EQ(RawUnary(pair.to->target(), "/grpc.health.v1.Health/Check", Field(1, "nobody"))
                .status()
                .code(),
            StatusCode::kNotFound);
}

TEST(Reflection, ListsTheServicesAndGivesTheirFiles) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const auto services = RawFirstOfStream(pair.to->target(), method, Field(7, ""));
  ASSERT_TRUE(services.ok()) << services.status();
  EXPECT_THAT(*services, HasSubstr("tschandoff.v1.TscAgent"));
  EXPECT_THAT(*services, HasSubstr("grpc.health.v1.Health"));
  const auto file = RawFirstOfStream(pair.to->target(), method, Field(4, "tschandoff.v1.TscAgent"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*file, HasSubstr("SetTscStateRequest"));
}

TEST(Metrics, CountCallsResultsAndTheLastHandoff) {
  PairOptions options;
  options.destination.agent.metrics_address = "127.0.0.1:0";
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
  v1::SetTscStateRequest wrong = request;
  wrong.set_vm_id("nobody");
  EXPECT_FALSE(pair.to->SetTscState(wrong).ok());
  sim::Fault fault;
  fault.request = KVM_SET_MSRS;
  pair.destination->host().Inject(fault);
  EXPECT_FALSE(pair.to->SetTscState(request).ok());
  const std::string text = HttpGet(pair.destination->agent().metrics_port(), "/metrics");
  EXPECT_THAT(text, HasSubstr("200 OK"));
  for (const char* line : {
           "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"SetTscState\","
           "grpc_service=\"tschandoff.v1.TscAgent\"} 2",
           "grpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"SetTscState\","
           "grpc_service=\"tschandoff.v1.TscAgent\"} 1",
           "tsc_agent_applies_total{reason=\"\",result=\"ok\"} 2",
           "tsc_agent_last_apply_phase_error_ticks 0",
           "ioctl=\"KVM_SET_MSRS\"} 1",
           "reason=\"VM_NOT_FOUND\"",
           "reason=\"KVM_IOCTL_FAILED\"",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MessageSize, OverTheLimitIsRefusedAndTheAgentGoesOn) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  const Snapshot before = Look(*pair.destination_vm);
  v1::SetTscStateRequest too_long = request;
  too_long.mutable_state()->set_payload(std::string(600 * 1024, 'x'));
  const auto answer = pair.to->SetTscState(too_long);
  EXPECT_EQ(answer.status().code(), StatusCode::kResourceExhausted) << answer.status();
  EXPECT_FALSE(client::NextStepOf(answer.status()).empty());
  ExpectUnchanged(*pair.destination_vm, before);
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
}

TEST(ListVmsRequest, PagesAndTheirLimits) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  auto second = pair.destination->AddGuest(Named("vm2"));
  ASSERT_TRUE(second.ok()) << second.status();
  const std::string method = "/tschandoff.v1.TscAgent/ListVms";
  v1::ListVmsRequest request;
  request.set_page_size(1);
  auto answer = RawUnary(pair.to->target(), method, request.SerializeAsString());
  ASSERT_TRUE(answer.ok()) << answer.status();
  v1::ListVmsResponse page;
  ASSERT_TRUE(page.ParseFromString(*answer));
  ASSERT_EQ(page.vms_size(), 1);
  EXPECT_EQ(page.vms(0).vm_id(), "vm");
  request.set_page_token(page.next_page_token());
  answer = RawUnary(pair.to->target(), method, request.SerializeAsString());
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_TRUE(page.ParseFromString(*answer));
  ASSERT_EQ(page.vms_size(), 1);
  EXPECT_EQ(page.vms(0).vm_id(), "vm2");
  EXPECT_EQ(page.next_page_token(), "");
  request.set_page_token("a token/of nobody");
  EXPECT_EQ(RawUnary(pair.to->target(), method, request.SerializeAsString()).status().code(),
            StatusCode::kInvalidArgument);
  request.clear_page_token();
  request.set_page_size(10'001);
  EXPECT_EQ(RawUnary(pair.to->target(), method, request.SerializeAsString()).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(GarbageMessage, IsRefusedAndTheAgentGoesOn) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto answer = RawUnary(pair.to->target(), "/tschandoff.v1.TscAgent/SetTscState",
                               std::string("\xff\xff\xff\xff garbage"));
  EXPECT_FALSE(answer.ok());
  EXPECT_EQ(RawUnary(pair.to->target(), "/tschandoff.v1.TscAgent/NoSuchMethod", "").status().code(),
            StatusCode::kUnimplemented);
  EXPECT_TRUE(pair.to->GetHostInfo().ok());
}

struct StartCase {
  const char* name;
  void (*change)(agent::Options& options, const std::string& taken);
  const char* text;
};

TEST(AgentStart, IsRefusedInASentenceWhereItCannotServe) {
  auto first = sim::SimNode::Start(std::make_shared<sim::SimTime>(), {});
  ASSERT_TRUE(first.ok()) << first.status();
  const StartCase cases[] = {
      {"a port in use",
       [](agent::Options& options, const std::string& taken) { options.listen = {taken}; },
       "is another agent running?"},
      {"a metrics port in use",
       [](agent::Options& options, const std::string& taken) { options.metrics_address = taken; },
       "127.0.0.1"},
      {"an address of the network",
       [](agent::Options& options, const std::string&) { options.listen = {"0.0.0.0:0"}; },
       "takes mutual TLS: give --tls-cert"},
      {"TCP on loopback that nobody has permitted",
       [](agent::Options& options, const std::string&) { options.transport.insecure_tcp = false; },
       "--insecure-tcp"},
      {"metrics for the network",
       [](agent::Options& options, const std::string&) { options.metrics_address = "0.0.0.0:0"; },
       "--insecure-metrics"},
      {"a name that only looks local",
       [](agent::Options& options, const std::string&) {
         options.listen = {"127.0.0.1.example.org:0"};
       },
       "takes mutual TLS: give --tls-cert"},
      {"a socket path too long",
       [](agent::Options& options, const std::string&) {
         options.listen = {"unix:/tmp/" + std::string(110, 'x')};
       },
       "a Unix socket's path has 1 to 107"},
  };
  for (const StartCase& start : cases) {
    SCOPED_TRACE(start.name);
    sim::SimNodeOptions options;
    start.change(options.agent, (*first)->address());
    const auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options);
    ASSERT_FALSE(node.ok());
    EXPECT_THAT(std::string(node.status().message()), HasSubstr(start.text));
  }
}

TEST(AgentStop, WithRegisteredVmsAndAfterCallsIsClean) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  EXPECT_TRUE(pair.to->SetTscState(pair.Request()).ok());
  pair.destination->StopAgent();
  const auto answer = ClientOf(*pair.source)->GetHostInfo();
  EXPECT_TRUE(answer.ok()) << "the other agent goes on";
  const absl::Status gone = pair.to->GetHostInfo().status();
  EXPECT_EQ(gone.code(), StatusCode::kUnavailable) << gone;
  EXPECT_FALSE(client::NextStepOf(gone).empty());
}

}  // namespace
}  // namespace tsc_handoff
