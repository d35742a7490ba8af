// Who is seen, what he sees, and what is kept of it: real callers of a real agent's Unix socket.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/service/guarded.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

v1::GetVmRequest VmRequest(const std::string& vm_id) {
  v1::GetVmRequest request;
  request.set_vm_id(vm_id);
  return request;
}

v1::GetHandoffRequest HandoffRequest(const std::string& handoff_id) {
  v1::GetHandoffRequest request;
  request.set_handoff_id(handoff_id);
  return request;
}

std::vector<std::string> IdsOf(const v1::ListVmsResponse& response) {
  std::vector<std::string> ids;
  for (const v1::Vm& vm : response.vms()) ids.push_back(vm.vm_id());
  return ids;
}

class Authorization : public Guarded {
 protected:
  json LastAudit() const { return json::parse(AuditLines().back()); }
};

TEST_F(Authorization, TheSocketIsForUserAndGroupOnlyAndIsGoneWithTheAgent) {
  ASSERT_NO_FATAL_FAILURE(Start());
  node_->StopAgent();
  EXPECT_FALSE(std::filesystem::exists(path("agent.sock")));
  ASSERT_TRUE(node_->StartAgent().ok());
  struct stat about = {};
  ASSERT_EQ(stat(path("agent.sock").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0660u);
  EXPECT_FALSE(ConnectAs(kNobody, path("agent.sock")).valid());
}

TEST_F(Authorization, ASecondAgentDoesNotTakeTheSocketAway) {
  ASSERT_NO_FATAL_FAILURE(Start());
  sim::SimNodeOptions second = options_;
  second.journal_path.clear();
  const auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), second);
  ASSERT_FALSE(node.ok());
  EXPECT_THAT(std::string(node.status().message()), HasSubstr("another tsc-agent already serves"));
  EXPECT_TRUE(As(kViewer).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok());
}

TEST_F(Authorization, AnAgentWithNothingButAUnixSocketServes) {
  options_.agent.listen = {"unix:" + path("agent.sock")};
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_TRUE(As(kViewer).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok());
  EXPECT_TRUE(As(kNobody).Call("/grpc.health.v1.Health/Check", "").ok());
}

// Connections of two users come and go at once: nobody is ever taken for the other.
TEST_F(Authorization, EachConnectionIsItsOwnUsersHoweverManyComeAndGo) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const auto churn = [&](const User& user, bool permitted) {
    size_t wrong = 0;
    for (int i = 0; i < 150; ++i) {
      const auto answer = As(user).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest());
      wrong += answer.ok() != permitted;
      if (!answer.ok() &&
          !absl::StrContains(answer.status().message(), absl::StrCat("uid ", user.uid, " ")))
        ++wrong;
    }
    return wrong;
  };
  auto viewer = std::async(std::launch::async, churn, kViewer, true);
  auto nobody = std::async(std::launch::async, churn, kNobody, false);
  EXPECT_EQ(viewer.get(), 0u);
  EXPECT_EQ(nobody.get(), 0u);
}

TEST_F(Authorization, OneConnectionServesManyCallsAtOnce) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const CallerAs caller = As(kViewer);
  std::vector<std::future<bool>> calls;
  for (int i = 0; i < 16; ++i) {
    calls.push_back(std::async(std::launch::async, [&caller] {
      bool good = true;
      for (int j = 0; j < 50; ++j)
        good &= caller.Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok();
      return good;
    }));
  }
  for (auto& call : calls) EXPECT_TRUE(call.get());
}

TEST_F(Authorization, AStopLetsCallsInProgressEndAndClosesConnections) {
  ASSERT_NO_FATAL_FAILURE(Start());
  CallerAs caller = As(kViewer);
  EXPECT_TRUE(caller.Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok());
  node_->agent().Stop(absl::Seconds(5));
  const absl::Status gone =
      caller.Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).status();
  EXPECT_EQ(gone.code(), StatusCode::kUnavailable) << gone;
  EXPECT_EQ(caller.channel()->GetState(false), GRPC_CHANNEL_SHUTDOWN);
}

TEST_F(Authorization, OfOneUserNotMoreThanSoManyConnectionsAreServed) {
  ASSERT_NO_FATAL_FAILURE(Start());
  std::vector<UniqueFd> connections;
  for (int i = 0; i < 64; ++i) {
    connections.push_back(ConnectAs(kNobody, path("agent.sock")));
    ASSERT_TRUE(connections.back().valid());
  }
  const UniqueFd one_more = ConnectAs(kNobody, path("agent.sock"));
  char byte;
  EXPECT_EQ(recv(one_more.get(), &byte, 1, 0), 0) << "it is closed at once";
  EXPECT_TRUE(As(kViewer).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok());
  connections.pop_back();
  // As soon as the agent has seen its end.
  EXPECT_TRUE(Await([&] { return As(kNobody).Call("/grpc.health.v1.Health/Check", "").ok(); }));
}

TEST_F(Authorization, AHostHasAsManyVmsAsItsCallerMaySee) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"db-1", "db-2", "web-1"}));
  const auto count = [&](const User& user) {
    const auto info =
        As(user).Call<v1::GetHostInfoResponse>("GetHostInfo", v1::GetHostInfoRequest());
    return info.ok() ? info->host().vm_count() : ~0u;
  };
  EXPECT_EQ(count(kWebOrchestrator), 1u);
  EXPECT_EQ(count(kViewer), 3u);
}

TEST_F(Authorization, VmsThatARoleIsNotForAreDeniedWhetherTheyExistOrNot) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"db-1", "web-1"}));
  CallerAs caller = As(kWebOrchestrator);
  EXPECT_TRUE(caller.Call<v1::GetVmResponse>("GetVm", VmRequest("web-1")).ok());
  ExpectRefused(caller.Call<v1::GetVmResponse>("GetVm", VmRequest("web-2")).status(),
                StatusCode::kNotFound, "VM_NOT_FOUND");
  const absl::Status there = caller.Call<v1::GetVmResponse>("GetVm", VmRequest("db-1")).status();
  const absl::Status not_there =
      caller.Call<v1::GetVmResponse>("GetVm", VmRequest("db-2")).status();
  ExpectRefused(there, StatusCode::kPermissionDenied, "NOT_AUTHORIZED");
  EXPECT_EQ(there.message(), absl::StrReplaceAll(not_there.message(), {{"db-2", "db-1"}}));
  EXPECT_THAT(std::string(there.message()), HasSubstr("for other VM ids than db-1"));
  // Every request that names a VM.
  v1::GetTscStateRequest get;
  get.set_vm_id("db-1");
  v1::SetTscStateRequest set;
  set.set_vm_id("db-1");
  v1::ListHandoffsRequest list;
  list.set_vm_id("db-1");
  v1::WatchHandoffsRequest watch;
  watch.set_vm_id("db-1");
  for (const absl::Status& status :
       {caller.Call<v1::GetTscStateResponse>("GetTscState", get).status(),
        caller.Call<v1::SetTscStateResponse>("SetTscState", set).status(),
        caller.Call<v1::ListHandoffsResponse>("ListHandoffs", list).status(),
        caller.Call<v1::WatchHandoffsResponse>("WatchHandoffs", watch).status()})
    ExpectRefused(status, StatusCode::kPermissionDenied, "NOT_AUTHORIZED");
}

TEST_F(Authorization, ListsShowOnlyTheVmsThatARoleIsForAndPagesAreWhole) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"a", "web-1", "web-2", "web-x", "z"}));
  CallerAs caller = As(kWebOrchestrator);
  v1::ListVmsRequest request;
  auto page = caller.Call<v1::ListVmsResponse>("ListVms", request);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(IdsOf(*page), ElementsAre("web-1", "web-2", "web-x"));
  EXPECT_EQ(page->next_page_token(), "");
  request.set_page_size(2);
  page = caller.Call<v1::ListVmsResponse>("ListVms", request);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(IdsOf(*page), ElementsAre("web-1", "web-2"));
  request.set_page_token(page->next_page_token());
  page = caller.Call<v1::ListVmsResponse>("ListVms", request);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(IdsOf(*page), ElementsAre("web-x"));
  EXPECT_EQ(page->next_page_token(), "");
  page = As(kViewer).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest());
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->vms_size(), 5);
}

TEST_F(Authorization, AnotherVmsHandoffIsToTheCallerAsIfThereWereNone) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"db-1", "web-1"}));
  ASSERT_NO_FATAL_FAILURE(Capture("db-1", "h-db"));
  ASSERT_NO_FATAL_FAILURE(Capture("web-1", "h-web"));
  CallerAs caller = As(kWebOrchestrator);
  EXPECT_TRUE(caller.Call<v1::GetHandoffResponse>("GetHandoff", HandoffRequest("h-web")).ok());
  const absl::Status foreign =
      caller.Call<v1::GetHandoffResponse>("GetHandoff", HandoffRequest("h-db")).status();
  const absl::Status unknown =
      caller.Call<v1::GetHandoffResponse>("GetHandoff", HandoffRequest("h-no")).status();
  ExpectRefused(foreign, StatusCode::kNotFound, "HANDOFF_NOT_FOUND");
  EXPECT_EQ(foreign.message(), absl::StrReplaceAll(unknown.message(), {{"h-no", "h-db"}}));
  v1::CommitHandoffRequest commit;
  commit.set_handoff_id("h-db");
  commit.set_side(v1::Handoff::SIDE_SOURCE);
  ExpectRefused(caller.Call<v1::CommitHandoffResponse>("CommitHandoff", commit).status(),
                StatusCode::kNotFound, "HANDOFF_NOT_FOUND");
  v1::AbortHandoffRequest abort;
  abort.set_handoff_id("h-db");
  abort.set_side(v1::Handoff::SIDE_SOURCE);
  ExpectRefused(caller.Call<v1::AbortHandoffResponse>("AbortHandoff", abort).status(),
                StatusCode::kNotFound, "HANDOFF_NOT_FOUND");
  const auto list =
      caller.Call<v1::ListHandoffsResponse>("ListHandoffs", v1::ListHandoffsRequest());
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->handoffs_size(), 1);
  EXPECT_EQ(list->handoffs(0).handoff_id(), "h-web");
  const auto first =
      caller.Call<v1::WatchHandoffsResponse>("WatchHandoffs", v1::WatchHandoffsRequest());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->handoff().handoff_id(), "h-web") << "h-db was begun before it";
  const auto both =
      As(kOrchestrator).Call<v1::GetHandoffResponse>("GetHandoff", HandoffRequest("h-db"));
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->source().state(), v1::Handoff::STATE_CAPTURED) << "nothing was done to it";
}

TEST_F(Authorization, ANewPolicyHoldsForTheNextCallAndEndsStreams) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"web-1"}));
  ASSERT_NO_FATAL_FAILURE(Capture("web-1", "h-web"));
  CallerAs caller = As(kViewer);
  auto stub = v1::TscAgent::NewStub(caller.channel());
  grpc::ClientContext context;
  const auto stream = stub->WatchHandoffs(&context, v1::WatchHandoffsRequest());
  v1::WatchHandoffsResponse message;
  ASSERT_TRUE(stream->Read(&message));
  node_->agent().SetPolicy(PolicyOf("bindings: [{role: viewer, users: 61001}]"));
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  ExpectRefused(caller.Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).status(),
                StatusCode::kPermissionDenied, "NOT_AUTHORIZED");
  EXPECT_TRUE(As(kPeer).Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok());
}

TEST_F(Authorization, WhoSendsTooManyRequestsIsToldWhenTheNextMayCome) {
  options_.agent.serving.max_request_rate = 3;
  ASSERT_NO_FATAL_FAILURE(Start());
  CallerAs caller = As(kViewer);
  absl::Status refused;
  for (int i = 0; i < 50 && refused.ok(); ++i)
    refused = caller.Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).status();
  ExpectRefused(refused, StatusCode::kResourceExhausted, "LIMIT_EXCEEDED");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("uid 61002 sends more than 3 requests"));
  EXPECT_TRUE(As(kPeer).Call("/tschandoff.v1.TscAgent/ProbeClock", "").ok()) << "others may";
  EXPECT_TRUE(caller.Call("/grpc.health.v1.Health/Check", "").ok()) << "health is not counted";
  node_->agent().SetMaxRequestRate(1'000'000);
  EXPECT_TRUE(Await(
      [&] { return caller.Call<v1::ListVmsResponse>("ListVms", v1::ListVmsRequest()).ok(); }));
}

TEST_F(Authorization, TheAuditSaysWhoDidWhatAndKeepsNoSecret) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"web-1"}));
  CallerAs caller = As(kOrchestrator);
  EXPECT_TRUE(caller.Call<v1::GetVmResponse>("GetVm", VmRequest("web-1")).ok());
  EXPECT_TRUE(AuditLines().empty()) << "what changes nothing is not in it";
  v1::GetTscStateRequest get;
  get.set_vm_id("web-1");
  get.set_handoff_id("h-1");
  get.set_destination_agent_id(std::string(16, 'd'));
  get.set_destination_vm_id("web-1");
  const auto captured = caller.Call<v1::GetTscStateResponse>("GetTscState", get);
  ASSERT_TRUE(captured.ok()) << captured.status();
  const json capture = LastAudit();
  EXPECT_EQ(capture["who"], "uid 61004");
  EXPECT_EQ(capture["from"], absl::StrCat("pid ", getpid()));
  EXPECT_EQ(capture["rpc"], "GetTscState");
  EXPECT_EQ(capture["vm"], "web-1");
  EXPECT_EQ(capture["handoff"], "h-1");
  EXPECT_EQ(capture["epoch"], 1);
  EXPECT_EQ(capture["state_sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(capture["result"], "ok");
  v1::AbortHandoffRequest abort;
  abort.set_handoff_id("h-1");
  abort.set_side(v1::Handoff::SIDE_SOURCE);
  const auto aborted = caller.Call<v1::AbortHandoffResponse>("AbortHandoff", abort);
  ASSERT_TRUE(aborted.ok()) << aborted.status();
  const json abortion = LastAudit();
  EXPECT_EQ(abortion["rpc"], "AbortHandoff");
  EXPECT_EQ(abortion["vm"], "web-1");
  EXPECT_EQ(abortion["epoch"], 1);
  v1::CommitHandoffRequest commit;
  commit.set_handoff_id("h-1");
  commit.set_side(v1::Handoff::SIDE_SOURCE);
  EXPECT_FALSE(caller.Call<v1::CommitHandoffResponse>("CommitHandoff", commit).ok());
  EXPECT_EQ(LastAudit()["result"], "HANDOFF_DECIDED");
  v1::SetTscStateRequest set;
  set.set_vm_id("nobody-knows");
  *set.mutable_state() = captured->state();
  set.set_mode(v1::APPLY_MODE_EXACT);
  EXPECT_FALSE(caller.Call<v1::SetTscStateResponse>("SetTscState", set).ok());
  EXPECT_EQ(LastAudit()["state_sha256"], capture["state_sha256"]) << "one state, one digest";
  EXPECT_FALSE(As(kViewer).Call("/tschandoff.v1.TscAgent/Drain", "").ok());
  const json refused = LastAudit();
  EXPECT_EQ(refused["who"], "uid 61002");
  EXPECT_EQ(refused["result"], "NOT_AUTHORIZED");
  const std::string proof = aborted->handoff().abort_proof();
  ASSERT_FALSE(proof.empty());
  for (const std::string& line : AuditLines()) {
    EXPECT_TRUE(json::accept(line)) << line;
    EXPECT_THAT(line, Not(HasSubstr(absl::BytesToHexString(proof))));
    EXPECT_THAT(line, Not(HasSubstr(proof)));
  }
}

TEST_F(Authorization, AnAuditFileThatCannotBeOpenedKeepsTheAgentFromStarting) {
  options_.agent.audit_log = path("no/such/directory/audit.log");
  const auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options_);
  ASSERT_FALSE(node.ok());
  EXPECT_THAT(std::string(node.status().message()), HasSubstr(options_.agent.audit_log));
}

}  // namespace
}  // namespace tsc_handoff
