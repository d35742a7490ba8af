#include "client/lib/agent_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "client/lib/rpc_error.h"
#include "client/lib/testing/fake_agent.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class AgentClientTest : public ::testing::Test {
 protected:
  AgentClientTest() {
    agent_.AddVm(MakeFakeVm("vm1", 3));
    // No real sleeping between attempts.
    options_.time.sleep = [this](absl::Duration) {
      ++sleeps_;
      return true;
    };
  }

  std::unique_ptr<AgentClient> Client() {
    absl::StatusOr<std::unique_ptr<AgentClient>> client =
        AgentClient::Connect(agent_.target(), options_);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  v1::SetTscStateRequest SetRequest(AgentClient& client, v1::ApplyMode mode) {
    v1::SetTscStateRequest request;
    request.set_vm_id("vm1");
    request.set_mode(mode);
    *request.mutable_state() = client.GetTscState("vm1")->state();
    return request;
  }

  FakeAgent agent_;
  AgentClientOptions options_;
  int sleeps_ = 0;
};

const FakeError kNoDetails{absl::StatusCode::kUnavailable, "Connection reset by peer", "", {}};

TEST_F(AgentClientTest, ReadsHostAndVm) {
  const std::unique_ptr<AgentClient> client = Client();
  EXPECT_EQ(client->GetHostInfo()->host_name(), "fake-host");
  EXPECT_EQ(client->GetVm("vm1")->vcpu_count(), 3u);
}

// Within so many attempts, not within the 5 s after which gRPC would look by itself.
TEST_F(AgentClientTest, AnAgentThatIsStartedAgainIsReachedSoon) {
  const std::unique_ptr<AgentClient> client = Client();
  ASSERT_TRUE(client->GetHostInfo().ok());
  const int port = agent_.port();
  agent_.Stop();
  ASSERT_FALSE(client->Call(v1::GetHostInfoRequest()).ok());
  ASSERT_FALSE(client->Call(v1::GetHostInfoRequest()).ok());
  FakeAgent again(port);
  int attempts = 1;
  while (!client->Call(v1::GetHostInfoRequest()).ok() && attempts < 20) ++attempts;
  EXPECT_LT(attempts, 20);
}

TEST_F(AgentClientTest, CompareClocksNamesThePeerAndIsRepeatedWhenTheAgentWasNotReached) {
  agent_.FailNext("CompareClocks", kNoDetails, 2);
  const absl::StatusOr<v1::CompareClocksResponse> compared = Client()->CompareClocks("host2:50051");
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_EQ(agent_.LastPeer(), "host2:50051");
  EXPECT_EQ(compared->probe().offset_ns(), 1'500);
  EXPECT_EQ(compared->verdict(), v1::CompareClocksResponse::VERDICT_AGREE);
  EXPECT_EQ(agent_.CallCount("CompareClocks"), 3);
}

TEST_F(AgentClientTest, AnUnreachablePeerIsTheAgentsWordAndNotAskedForAgain) {
  agent_.FailNext(
      "CompareClocks",
      {absl::StatusCode::kUnavailable, "no answer", "PEER_UNREACHABLE", {{"peer", "host2:50051"}}});
  const absl::Status status = Client()->CompareClocks("host2:50051").status();
  EXPECT_EQ(ReasonOf(status), v1::PEER_UNREACHABLE);
  EXPECT_FALSE(IsUnreachable(status));
  EXPECT_EQ(agent_.CallCount("CompareClocks"), 1);
}

TEST_F(AgentClientTest, AComparisonWithoutItsPartsIsABadAnswer) {
  const std::unique_ptr<AgentClient> client = Client();
  const v1::CompareClocksResponse whole = *client->CompareClocks("host2:50051");
  const struct {
    void (v1::CompareClocksResponse::*clear)();
    const char* says;
  } kRows[] = {
      {&v1::CompareClocksResponse::clear_probe, "without a probe"},
      {&v1::CompareClocksResponse::clear_local, "without both hosts' claims"},
      {&v1::CompareClocksResponse::clear_peer, "without both hosts' claims"},
  };
  for (const auto& row : kRows) {
    v1::CompareClocksResponse part = whole;
    (part.*row.clear)();
    agent_.SetComparison(part);
    EXPECT_THAT(std::string(client->CompareClocks("host2:50051").status().message()),
                HasSubstr(row.says));
  }
}

TEST_F(AgentClientTest, ListVmsFetchesEveryPage) {
  agent_.SetPageLimit(2);
  for (const char* vm : {"vm2", "vm3", "vm4"}) agent_.AddVm(MakeFakeVm(vm, 1));
  const absl::StatusOr<std::vector<v1::Vm>> vms = Client()->ListVms();
  ASSERT_TRUE(vms.ok()) << vms.status();
  ASSERT_EQ(vms->size(), 4u);
  EXPECT_EQ(vms->back().vm_id(), "vm4");
  EXPECT_EQ(agent_.CallCount("ListVms"), 2);
}

TEST_F(AgentClientTest, ListVmsEndsThoughTheAgentsPagesDoNot) {
  agent_.SetEndlessPages();
  EXPECT_THAT(std::string(Client()->ListVms().status().message()),
              HasSubstr("whose next page is itself"));
}

TEST_F(AgentClientTest, ErrorKeepsReasonMetadataAndNextStep) {
  const absl::Status status = Client()->GetTscState("vm9").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(IsFromAgent(status));
  EXPECT_EQ(ReasonOf(status), v1::VM_NOT_FOUND);
  EXPECT_EQ(ReasonNameOf(status), "VM_NOT_FOUND");
  EXPECT_THAT(MetadataOf(status),
              UnorderedElementsAre(Pair("vm_id", "vm9"), Pair("next_step", "Look at ListVms.")));
  EXPECT_EQ(NextStepOf(status), "Look at ListVms.");
  const absl::Status annotated = Annotate(status, "capture");
  EXPECT_EQ(ReasonOf(annotated), v1::VM_NOT_FOUND);
  EXPECT_THAT(std::string(annotated.message()), testing::StartsWith("capture: no VM vm9"));
}

TEST_F(AgentClientTest, ReasonOfANewerAgentKeepsItsName) {
  agent_.FailNext("GetVm", {absl::StatusCode::kInternal, "x", "FLUX_CAPACITOR_DRY", {}});
  const absl::Status status = Client()->GetVm("vm1").status();
  EXPECT_EQ(ReasonOf(status), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(ReasonNameOf(status), "FLUX_CAPACITOR_DRY");
  EXPECT_NE(NextStepOf(status), "");
}

TEST_F(AgentClientTest, ReadsAreRepeatedWhenTheAgentWasNotReached) {
  agent_.FailNext("GetVm", kNoDetails, 2);
  EXPECT_TRUE(Client()->GetVm("vm1").ok());
  EXPECT_EQ(sleeps_, 2);
}

TEST_F(AgentClientTest, AnAgentThatAnswersUnavailableIsNotAskedAgain) {
  agent_.FailNext("GetVm", {absl::StatusCode::kUnavailable, "VMM died", "VMM_GONE", {}});
  const absl::Status status = Client()->GetVm("vm1").status();
  EXPECT_EQ(ReasonOf(status), v1::VMM_GONE);
  EXPECT_FALSE(IsUnreachable(status));
  EXPECT_EQ(agent_.CallCount("GetVm"), 1);
}

TEST_F(AgentClientTest, NobodyThereIsUnreachable) {
  const std::unique_ptr<AgentClient> client = Client();
  agent_.Stop();
  const absl::Status status = client->GetHostInfo().status();
  EXPECT_TRUE(IsUnreachable(status)) << status;
  EXPECT_THAT(NextStepOf(status), HasSubstr("systemctl status tsc-agent"));
  EXPECT_EQ(sleeps_, 2);
}

TEST_F(AgentClientTest, NothingIsSentWhenASetFindsNobody) {
  const v1::SetTscStateRequest request = SetRequest(*Client(), v1::APPLY_MODE_ELAPSED);
  agent_.Stop();
  const absl::Status status = Client()->SetTscState(request).status();
  EXPECT_TRUE(IsUnreachable(status)) << status;
  EXPECT_FALSE(IsOutcomeUnknown(status));
}

TEST_F(AgentClientTest, ReadDeadlineIsKept) {
  options_.timeout = absl::Milliseconds(100);
  agent_.HangNext("GetVm");
  const absl::Status status = Client()->GetVm("vm1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(IsOutcomeUnknown(status));
  EXPECT_THAT(NextStepOf(status), HasSubstr("Nothing was changed"));
}

TEST_F(AgentClientTest, SetDeadlineLeavesTheOutcomeUnknown) {
  const std::unique_ptr<AgentClient> reader = Client();
  const v1::SetTscStateRequest request = SetRequest(*reader, v1::APPLY_MODE_ELAPSED);
  options_.timeout = absl::Milliseconds(200);
  agent_.HangNext("SetTscState");
  const absl::Status status = Client()->SetTscState(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(IsOutcomeUnknown(status));
  EXPECT_THAT(NextStepOf(status), HasSubstr("Leave the VM paused"));
}

TEST_F(AgentClientTest, LostSetAnswerIsNotRepeatedUnlessAsked) {
  const std::unique_ptr<AgentClient> client = Client();
  const v1::SetTscStateRequest request = SetRequest(*client, v1::APPLY_MODE_ELAPSED);
  agent_.LoseNextSetAnswer();
  const absl::Status status = client->SetTscState(request).status();
  EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
  EXPECT_FALSE(IsUnreachable(status));
  EXPECT_EQ(agent_.CallCount("SetTscState"), 1);
}

TEST_F(AgentClientTest, LostElapsedSetIsRepeatedWhenAsked) {
  options_.retry_elapsed_set = true;
  const std::unique_ptr<AgentClient> client = Client();
  agent_.LoseNextSetAnswer();
  EXPECT_TRUE(client->SetTscState(SetRequest(*client, v1::APPLY_MODE_ELAPSED)).ok());
  EXPECT_EQ(agent_.CallCount("SetTscState"), 2);

  agent_.LoseNextSetAnswer();
  EXPECT_FALSE(client->SetTscState(SetRequest(*client, v1::APPLY_MODE_EXACT)).ok());
  EXPECT_EQ(agent_.CallCount("SetTscState"), 3);
}

TEST_F(AgentClientTest, OutcomeStaysUnknownWhenARepeatIsRefused) {
  options_.retry_elapsed_set = true;
  const std::unique_ptr<AgentClient> client = Client();
  const v1::SetTscStateRequest request = SetRequest(*client, v1::APPLY_MODE_ELAPSED);
  agent_.FailNext("SetTscState", kNoDetails);
  agent_.FailNext("SetTscState",
                  {absl::StatusCode::kAborted, "busy", "VM_BUSY", {{"next_step", "Wait."}}});
  const absl::Status status = client->SetTscState(request).status();
  EXPECT_EQ(ReasonOf(status), v1::VM_BUSY);
  EXPECT_TRUE(IsOutcomeUnknown(status));
  EXPECT_THAT(NextStepOf(status), HasSubstr("Leave the VM paused"));
}

TEST_F(AgentClientTest, ValidateOnlyNeverLeavesDoubt) {
  const std::unique_ptr<AgentClient> client = Client();
  v1::SetTscStateRequest request = SetRequest(*client, v1::APPLY_MODE_EXACT);
  request.set_validate_only(true);
  agent_.FailNext("SetTscState", kNoDetails, 3);
  EXPECT_TRUE(IsUnreachable(client->SetTscState(request).status()));
}

TEST(AgentClientConnectTest, BadTargetsAreNamed) {
  const struct {
    std::string target;
    const char* why;
  } kRows[] = {
      {"", "empty"},
      {"unix:", "no path"},
      {"unix:/" + std::string(107, 'x'), "at most 107"},
      {"/run/agent.sock", "needs unix: in front"},
      {"host", "has no port"},
      {"host:", "not a number"},
      {"host:0", "1 to 65535"},
      {"host:65536", "1 to 65535"},
      {":50051", "no host"},
      {"[::1]:x", "not a number"},
      {"a b:1", "white space"},
      {"http://host:1", "is a URL"},
  };
  for (const auto& row : kRows) {
    const absl::Status status = AgentClient::Connect(row.target).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.target;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(row.why), HasSubstr("unix:/path")))
        << row.target;
  }
}

TEST(AgentClientConnectTest, GoodTargetsAreTaken) {
  for (const char* target :
       {"unix:/run/tsc-handoff/agent.sock", "unix:///run/a.sock", "127.0.0.1:50051", "[::1]:50051",
        "host-7.example:1", "dns:///host:1", "dns:host", "ipv4:127.0.0.1:1"}) {
    EXPECT_TRUE(AgentClient::Connect(target).ok()) << target;
  }
  EXPECT_FALSE(AgentClient::Connect("host:1", {.timeout = absl::ZeroDuration()}).ok());
}

v1::Handoff Captured(const std::string& id, const std::string& vm_id) {
  v1::Handoff handoff;
  handoff.set_handoff_id(id);
  handoff.set_side(v1::Handoff::SIDE_SOURCE);
  handoff.set_state(v1::Handoff::STATE_CAPTURED);
  handoff.set_vm_id(vm_id);
  return handoff;
}

TEST_F(AgentClientTest, WatchingTellsWhatIsPendingAndThenEachChange) {
  agent_.PutHandoff(Captured("h1", "vm1"));
  agent_.PutHandoff(Captured("h2", "vm2"));
  const std::unique_ptr<AgentClient> client = Client();
  const std::unique_ptr<HandoffStream> stream = client->WatchHandoffs("vm1");
  v1::WatchHandoffsResponse change;
  ASSERT_TRUE(stream->Next(&change));
  EXPECT_TRUE(change.initial());
  EXPECT_EQ(change.handoff().handoff_id(), "h1");
  for (const char* id : {"h2", "h1"}) {
    agent_.EditHandoff(id, v1::Handoff::SIDE_SOURCE, [](v1::Handoff& handoff) {
      handoff.set_state(v1::Handoff::STATE_RELEASED);
    });
  }
  ASSERT_TRUE(stream->Next(&change));
  EXPECT_FALSE(change.initial());
  EXPECT_EQ(change.handoff().handoff_id(), "h1");
  EXPECT_EQ(change.handoff().state(), v1::Handoff::STATE_RELEASED);
}

TEST_F(AgentClientTest, WatchingEndsWithTheAgentsReason) {
  agent_.PutHandoff(Captured("h1", "vm1"));
  const std::unique_ptr<AgentClient> client = Client();
  const std::unique_ptr<HandoffStream> stream = client->WatchHandoffs();
  v1::WatchHandoffsResponse change;
  ASSERT_TRUE(stream->Next(&change));
  agent_.EndWatches({absl::StatusCode::kUnavailable, "stopping", "AGENT_STOPPING", {}});
  EXPECT_FALSE(stream->Next(&change));
  EXPECT_EQ(ReasonOf(stream->Finish()), v1::AGENT_STOPPING);
}

TEST_F(AgentClientTest, WatchingAnAgentThatIsAwayEnds) {
  agent_.Stop();
  const std::unique_ptr<AgentClient> client = Client();
  const std::unique_ptr<HandoffStream> stream = client->WatchHandoffs();
  v1::WatchHandoffsResponse change;
  EXPECT_FALSE(stream->Next(&change));
  EXPECT_TRUE(IsUnreachable(stream->Finish()));
}

TEST_F(AgentClientTest, StopEndsStreamsAndCallsThatWait) {
  options_.timeout = absl::Hours(1);
  const std::unique_ptr<AgentClient> client = Client();
  agent_.HangNext("GetHostInfo");
  std::thread stopper([&] {
    while (agent_.CallCount("GetHostInfo") == 0) std::this_thread::yield();
    client->Stop();
  });
  EXPECT_EQ(client->GetHostInfo().status().code(), absl::StatusCode::kCancelled);
  stopper.join();
  const std::unique_ptr<HandoffStream> stream = client->WatchHandoffs();
  v1::WatchHandoffsResponse change;
  EXPECT_FALSE(stream->Next(&change));
  EXPECT_EQ(stream->Finish().code(), absl::StatusCode::kCancelled);
}

TEST_F(AgentClientTest, CancelEndsAStreamThatWaits) {
  const std::unique_ptr<AgentClient> client = Client();
  const std::unique_ptr<HandoffStream> stream = client->WatchHandoffs();
  std::thread canceller([&] {
    while (agent_.CallCount("WatchHandoffs") == 0) std::this_thread::yield();
    stream->Cancel();
  });
  v1::WatchHandoffsResponse change;
  EXPECT_FALSE(stream->Next(&change));
  EXPECT_EQ(stream->Finish().code(), absl::StatusCode::kCancelled);
  canceller.join();
}

}  // namespace
}  // namespace tsc_handoff::client
