// Durable handoffs between two real agents: who may run the VM, what is repeated, refused, undone
// and remembered. Each call is made as it is; what an orchestrator makes of them is tested
// elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/service/pair.h"
#include "tests/service/stub.h"

namespace tsc_handoff {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using TscAgent = v1::TscAgent::Stub;

constexpr char kHandoff[] = "handoff-1";

PairOptions Options() {
  PairOptions options;
  options.destination_guest.awaits_handoff = true;
  return options;
}

class DurableHandoffTest : public testing::Test {
 protected:
  explicit DurableHandoffTest(const PairOptions& options = Options()) : pair_(options) {}

  void SetUp() override {
    ASSERT_TRUE(pair_.ok());
    Connect();
    ASSERT_TRUE(pair_.source_vm->Resume().ok());
    pair_.time->Advance(1'000'000'000);
    pair_.source_vm->Pause();
  }

  void Connect() {
    source_ = std::make_unique<Stub>(pair_.source->address());
    destination_ = std::make_unique<Stub>(pair_.destination->address());
  }

  static std::string AgentId(Stub& stub) {
    auto info = stub.Call(&TscAgent::GetHostInfo, v1::GetHostInfoRequest());
    EXPECT_TRUE(info.ok()) << info.status();
    return info.ok() ? info->host().agent_id() : "";
  }

  v1::GetTscStateRequest CaptureRequest(const std::string& id = kHandoff) {
    v1::GetTscStateRequest request;
    request.set_vm_id(pair_.source_vm->vm_id());
    request.set_handoff_id(id);
    request.set_destination_agent_id(AgentId(*destination_));
    request.set_destination_vm_id(pair_.destination_vm->vm_id());
    return request;
  }

  absl::StatusOr<v1::GetTscStateResponse> Capture(const std::string& id = kHandoff) {
    auto captured = source_->Call(&TscAgent::GetTscState, CaptureRequest(id));
    pair_.time->Advance(50'000'000);
    return captured;
  }

  v1::SetTscStateRequest ApplyRequest(const v1::TscState& state) {
    v1::SetTscStateRequest request;
    request.set_vm_id(pair_.destination_vm->vm_id());
    *request.mutable_state() = state;
    request.set_mode(v1::APPLY_MODE_ELAPSED);
    return request;
  }

  absl::StatusOr<v1::SetTscStateResponse> Apply(const v1::TscState& state) {
    return destination_->Call(&TscAgent::SetTscState, ApplyRequest(state));
  }

  // Captured and applied.
  void BringToApplied() {
    const auto captured = Capture();
    ASSERT_TRUE(captured.ok()) << captured.status();
    state_ = captured->state();
    const auto applied = Apply(state_);
    ASSERT_TRUE(applied.ok()) << applied.status();
  }

  absl::StatusOr<v1::Handoff> CommitSource(const std::string& id = kHandoff) {
    v1::CommitHandoffRequest request;
    request.set_handoff_id(id);
    request.set_side(v1::Handoff::SIDE_SOURCE);
    auto response = source_->Call(&TscAgent::CommitHandoff, request);
    if (!response.ok()) return response.status();
    return response->handoff();
  }

  absl::StatusOr<v1::Handoff> CommitDestination(const std::string& proof,
                                                const std::string& id = kHandoff) {
    v1::CommitHandoffRequest request;
    request.set_handoff_id(id);
    request.set_side(v1::Handoff::SIDE_DESTINATION);
    request.set_release_proof(proof);
    auto response = destination_->Call(&TscAgent::CommitHandoff, request);
    if (!response.ok()) return response.status();
    return response->handoff();
  }

  absl::StatusOr<v1::Handoff> AbortSource(const std::string& id = kHandoff) {
    v1::AbortHandoffRequest request;
    request.set_handoff_id(id);
    request.set_side(v1::Handoff::SIDE_SOURCE);
    auto response = source_->Call(&TscAgent::AbortHandoff, request);
    if (!response.ok()) return response.status();
    return response->handoff();
  }

  absl::StatusOr<v1::Handoff> AbortDestination(const v1::Handoff& source) {
    v1::AbortHandoffRequest request;
    request.set_handoff_id(source.handoff_id());
    request.set_side(v1::Handoff::SIDE_DESTINATION);
    request.set_abort_proof(source.abort_proof());
    *request.mutable_ticket() = source.ticket();
    auto response = destination_->Call(&TscAgent::AbortHandoff, request);
    if (!response.ok()) return response.status();
    return response->handoff();
  }

  void CommitBoth() {
    const auto released = CommitSource();
    ASSERT_TRUE(released.ok()) << released.status();
    const auto active = CommitDestination(released->release_proof());
    ASSERT_TRUE(active.ok()) << active.status();
    EXPECT_EQ(active->state(), v1::Handoff::STATE_ACTIVE);
  }

  static v1::Handoff Known(Stub& stub, v1::Handoff::Side side, const std::string& id = kHandoff) {
    v1::GetHandoffRequest request;
    request.set_handoff_id(id);
    const auto response = stub.Call(&TscAgent::GetHandoff, request);
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) return {};
    return side == v1::Handoff::SIDE_SOURCE ? response->source() : response->destination();
  }

  v1::Vm VmAt(Stub& stub, const std::string& vm_id) {
    v1::GetVmRequest request;
    request.set_vm_id(vm_id);
    const auto response = stub.Call(&TscAgent::GetVm, request);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->vm() : v1::Vm();
  }
  v1::Vm SourceVm() { return VmAt(*source_, pair_.source_vm->vm_id()); }
  v1::Vm DestinationVm() { return VmAt(*destination_, pair_.destination_vm->vm_id()); }

  // Who may run the VM, by the agents' word, which the VMMs obey.
  std::vector<bool> MayRun() { return {SourceVm().may_run(), DestinationVm().may_run()}; }

  Pair pair_;
  std::unique_ptr<Stub> source_;
  std::unique_ptr<Stub> destination_;
  v1::TscState state_;
};

TEST_F(DurableHandoffTest, ThePermitMovesWithTheVm) {
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  EXPECT_THAT(MayRun(), ElementsAre(false, false));
  EXPECT_THAT(SourceVm().may_not_run_reason(), HasSubstr("in handoff handoff-1"));
  absl::Status resumed = pair_.source_vm->Resume();
  EXPECT_THAT(std::string(resumed.message()), HasSubstr("in handoff handoff-1"));

  const auto applied = Apply(captured->state());
  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair_, *applied, pair_.source->options().host.clock.tsc_khz);
  EXPECT_THAT(MayRun(), ElementsAre(false, false));
  EXPECT_FALSE(pair_.destination_vm->Resume().ok());

  const auto released = CommitSource();
  ASSERT_TRUE(released.ok()) << released.status();
  EXPECT_EQ(released->state(), v1::Handoff::STATE_RELEASED);
  EXPECT_EQ(released->release_proof().size(), 16u);
  EXPECT_TRUE(released->abort_proof().empty());
  EXPECT_THAT(MayRun(), ElementsAre(false, false));

  const auto active = CommitDestination(released->release_proof());
  ASSERT_TRUE(active.ok()) << active.status();
  EXPECT_EQ(active->state(), v1::Handoff::STATE_ACTIVE);
  EXPECT_THAT(MayRun(), ElementsAre(false, true));
  EXPECT_TRUE(Await([&] { return pair_.destination_vm->Resume().ok(); }));
  resumed = pair_.source_vm->Resume();
  EXPECT_THAT(std::string(resumed.message()), HasSubstr("released to another host"));
}

TEST_F(DurableHandoffTest, TheDestinationWantsTheSourcesProof) {
  BringToApplied();
  for (const std::string& proof : {std::string(), std::string(16, '\0'), std::string(32, 'x')}) {
    ExpectRefused(CommitDestination(proof).status(), absl::StatusCode::kFailedPrecondition,
                  "HANDOFF_UNDECIDED");
  }
  v1::Handoff lie = Known(*source_, v1::Handoff::SIDE_SOURCE);
  EXPECT_TRUE(lie.release_proof().empty() && lie.abort_proof().empty()) << "nothing is decided";
  lie.set_abort_proof(std::string(16, '\0'));
  ExpectRefused(AbortDestination(lie).status(), absl::StatusCode::kFailedPrecondition,
                "HANDOFF_UNDECIDED");
  const auto aborted = AbortSource();
  ASSERT_TRUE(aborted.ok()) << aborted.status();
  ExpectRefused(CommitDestination(aborted->abort_proof()).status(),
                absl::StatusCode::kFailedPrecondition, "HANDOFF_UNDECIDED");
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
}

TEST_F(DurableHandoffTest, AnAbortGivesBothWhatTheyHad) {
  const Snapshot source_before = Look(*pair_.source_vm);
  Snapshot destination_before = Look(*pair_.destination_vm);
  // KVM gives it to a VM whose vCPUs were all given one offset, which undoing does.
  destination_before.master_clock = true;
  BringToApplied();
  const auto aborted = AbortSource();
  ASSERT_TRUE(aborted.ok()) << aborted.status();
  EXPECT_EQ(aborted->state(), v1::Handoff::STATE_ABORTED);
  EXPECT_EQ(aborted->abort_proof().size(), 16u);
  EXPECT_TRUE(aborted->release_proof().empty());
  const auto undone = AbortDestination(*aborted);
  ASSERT_TRUE(undone.ok()) << undone.status();
  EXPECT_EQ(undone->state(), v1::Handoff::STATE_ABORTED);
  EXPECT_TRUE(undone->restored());
  ExpectUnchanged(*pair_.source_vm, source_before);
  ExpectUnchanged(*pair_.destination_vm, destination_before, 2'000);
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  EXPECT_TRUE(Await([&] { return pair_.source_vm->Resume().ok(); }));
}

TEST_F(DurableHandoffTest, ADecisionStands) {
  BringToApplied();
  const auto released = CommitSource();
  ASSERT_TRUE(released.ok()) << released.status();
  ExpectRefused(AbortSource().status(), absl::StatusCode::kFailedPrecondition, "HANDOFF_DECIDED");
  ASSERT_TRUE(CommitDestination(released->release_proof()).ok());
  v1::Handoff lie = *released;
  lie.set_abort_proof(released->release_proof());
  ExpectRefused(AbortDestination(lie).status(), absl::StatusCode::kFailedPrecondition,
                "HANDOFF_UNDECIDED");

  ASSERT_TRUE(pair_.destination_vm != nullptr);
  EXPECT_THAT(MayRun(), ElementsAre(false, true));
}

TEST_F(DurableHandoffTest, AnAbortedHandoffCannotBeCommittedOrCapturedAgain) {
  BringToApplied();
  ASSERT_TRUE(AbortSource().ok());
  ExpectRefused(CommitSource().status(), absl::StatusCode::kFailedPrecondition, "HANDOFF_DECIDED");
  ExpectRefused(Capture().status(), absl::StatusCode::kFailedPrecondition, "HANDOFF_DECIDED");
}

TEST_F(DurableHandoffTest, ARepeatedRequestGetsTheFirstAnswer) {
  const auto first = Capture();
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = Capture();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->SerializeAsString(), first->SerializeAsString());

  const auto applied = Apply(first->state());
  ASSERT_TRUE(applied.ok()) << applied.status();
  const Snapshot has = Look(*pair_.destination_vm);
  pair_.time->Advance(1'000'000);
  const auto again = Apply(first->state());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), applied->SerializeAsString());
  ExpectUnchanged(*pair_.destination_vm, has);

  const auto released = CommitSource();
  ASSERT_TRUE(released.ok()) << released.status();
  EXPECT_EQ(CommitSource()->SerializeAsString(), released->SerializeAsString());
  EXPECT_EQ(Capture()->SerializeAsString(), first->SerializeAsString()) << "after the release, too";
  ASSERT_TRUE(CommitDestination(released->release_proof()).ok());
  EXPECT_TRUE(CommitDestination(released->release_proof()).ok());
  EXPECT_EQ(Apply(first->state())->SerializeAsString(), applied->SerializeAsString());
}

TEST_F(DurableHandoffTest, AnIdIsNotUsedTwice) {
  BringToApplied();
  v1::GetTscStateRequest other = CaptureRequest();
  other.set_destination_vm_id("elsewhere");
  ExpectRefused(source_->Call(&TscAgent::GetTscState, other).status(),
                absl::StatusCode::kAlreadyExists, "HANDOFF_ID_REUSED");
  v1::SetTscStateRequest apply = ApplyRequest(state_);
  apply.set_max_elapsed_ns(1'000'000'000'000);
  ExpectRefused(destination_->Call(&TscAgent::SetTscState, apply).status(),
                absl::StatusCode::kAlreadyExists, "HANDOFF_ID_REUSED");
  const v1::TscState forged =
      Changed(state_, [](time::TscState& state) { ++state.handoff->epoch; });
  ExpectRefused(Apply(forged).status(), absl::StatusCode::kAlreadyExists, "HANDOFF_ID_REUSED");
}

TEST_F(DurableHandoffTest, AVmIsInOneHandoffAtATime) {
  BringToApplied();
  const auto second = Capture("handoff-2");
  ExpectRefused(second.status(), absl::StatusCode::kAborted, "HANDOFF_CONFLICT");
  EXPECT_EQ(client::MetadataOf(second.status())["handoff_id"], kHandoff);
  const v1::TscState other = Changed(state_, [](time::TscState& state) {
    state.handoff->handoff_id = "handoff-2";
    state.handoff->epoch = 9;
  });
  const auto applied = Apply(other);
  ExpectRefused(applied.status(), absl::StatusCode::kAborted, "HANDOFF_CONFLICT");
  EXPECT_EQ(client::MetadataOf(applied.status())["handoff_id"], kHandoff);
  // Nor is a plain state written over one that is handed off.
  const v1::TscState plain = Changed(state_, [](time::TscState& state) { state.handoff.reset(); });
  ExpectRefused(Apply(plain).status(), absl::StatusCode::kAborted, "HANDOFF_CONFLICT");
}

TEST_F(DurableHandoffTest, AStateIsForOneAgentAndOneVm) {
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  const Snapshot before = Look(*pair_.destination_vm);
  const v1::TscState to_another_host = Changed(captured->state(), [](time::TscState& state) {
    state.handoff->destination_agent_id = std::string(16, 'z');
  });
  ExpectRefused(Apply(to_another_host).status(), absl::StatusCode::kInvalidArgument,
                "REQUEST_INVALID");
  v1::SetTscStateRequest to_another_vm = ApplyRequest(captured->state());
  to_another_vm.set_vm_id("another");
  ExpectRefused(destination_->Call(&TscAgent::SetTscState, to_another_vm).status(),
                absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
  ExpectUnchanged(*pair_.destination_vm, before);
}

TEST_F(DurableHandoffTest, ALowerEpochIsRefusedForEver) {
  const auto first = Capture("first");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(AbortSource("first").ok());
  const auto second = Capture("second");
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE(Apply(second->state()).ok());
  const auto aborted = AbortSource("second");
  ASSERT_TRUE(aborted.ok()) << aborted.status();
  ASSERT_TRUE(AbortDestination(*aborted).ok());
  const auto stale = Apply(first->state());
  ExpectRefused(stale.status(), absl::StatusCode::kFailedPrecondition, "STALE_EPOCH");
  EXPECT_EQ(client::MetadataOf(stale.status())["highest_epoch"], "2");
}

TEST_F(DurableHandoffTest, AStateThatComesAfterTheAbortIsRefused) {
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  const auto aborted = AbortSource();
  ASSERT_TRUE(aborted.ok()) << aborted.status();
  const auto barred = AbortDestination(*aborted);
  ASSERT_TRUE(barred.ok()) << barred.status();
  EXPECT_EQ(barred->state(), v1::Handoff::STATE_ABORTED);
  EXPECT_TRUE(barred->restored());
  const Snapshot before = Look(*pair_.destination_vm);
  ExpectRefused(Apply(captured->state()).status(), absl::StatusCode::kFailedPrecondition,
                "HANDOFF_DECIDED");
  ExpectUnchanged(*pair_.destination_vm, before);
}

TEST_F(DurableHandoffTest, ARefusedApplyLeavesNothingAndCanBeRepeated) {
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  const Snapshot before = Look(*pair_.destination_vm);
  pair_.destination->clock().Distrust("its daemon is ill");
  ExpectRefused(Apply(captured->state()).status(), absl::StatusCode::kFailedPrecondition,
                "CLOCK_UNTRUSTED");
  ExpectUnchanged(*pair_.destination_vm, before);
  pair_.destination->clock().Trust(20'000);
  EXPECT_TRUE(Apply(captured->state()).ok());
}

TEST_F(DurableHandoffTest, AValidationChangesNothingAtAll) {
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  v1::SetTscStateRequest request = ApplyRequest(captured->state());
  request.set_validate_only(true);
  const auto validated = destination_->Call(&TscAgent::SetTscState, request);
  ASSERT_TRUE(validated.ok()) << validated.status();
  EXPECT_TRUE(validated->validated_only());
  v1::GetHandoffRequest get;
  get.set_handoff_id(kHandoff);
  ExpectRefused(destination_->Call(&TscAgent::GetHandoff, get).status(),
                absl::StatusCode::kNotFound, "HANDOFF_NOT_FOUND");
  EXPECT_TRUE(Apply(captured->state()).ok());
}

TEST_F(DurableHandoffTest, ChangesNeedADeadline) {
  const auto forever = absl::InfiniteDuration();
  v1::CommitHandoffRequest commit;
  commit.set_handoff_id(kHandoff);
  commit.set_side(v1::Handoff::SIDE_SOURCE);
  v1::AbortHandoffRequest abort;
  abort.set_handoff_id(kHandoff);
  abort.set_side(v1::Handoff::SIDE_SOURCE);
  for (const absl::Status& status :
       {source_->Call(&TscAgent::GetTscState, CaptureRequest(), forever).status(),
        source_->Call(&TscAgent::SetTscState, v1::SetTscStateRequest(), forever).status(),
        source_->Call(&TscAgent::CommitHandoff, commit, forever).status(),
        source_->Call(&TscAgent::AbortHandoff, abort, forever).status()}) {
    ExpectRefused(status, absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
    EXPECT_EQ(client::MetadataOf(status)["field"], "deadline");
  }
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
}

TEST_F(DurableHandoffTest, WhatIsNotThereIsSaidToBeNotThere) {
  ExpectRefused(CommitSource().status(), absl::StatusCode::kNotFound, "HANDOFF_NOT_FOUND");
  ExpectRefused(AbortSource().status(), absl::StatusCode::kNotFound, "HANDOFF_NOT_FOUND");
  ExpectRefused(CommitDestination(std::string(16, 'p')).status(), absl::StatusCode::kNotFound,
                "HANDOFF_NOT_FOUND");
}

TEST_F(DurableHandoffTest, BadRequestsAreNamed) {
  struct Row {
    const char* field;
    std::function<void(v1::GetTscStateRequest&)> spoil;
  };
  const Row rows[] = {
      {"handoff_id", [](auto& request) { request.set_handoff_id("no spaces"); }},
      {"handoff_id", [](auto& request) { request.set_handoff_id(std::string(129, 'x')); }},
      {"handoff_id", [](auto& request) { request.clear_handoff_id(); }},
      {"destination_agent_id", [](auto& request) { request.set_destination_agent_id("short"); }},
      {"destination_vm_id", [](auto& request) { request.clear_destination_vm_id(); }},
  };
  for (const Row& row : rows) {
    v1::GetTscStateRequest request = CaptureRequest();
    row.spoil(request);
    const auto status = source_->Call(&TscAgent::GetTscState, request).status();
    ExpectRefused(status, absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
    EXPECT_EQ(client::MetadataOf(status)["field"], row.field);
  }
  v1::CommitHandoffRequest commit;
  commit.set_handoff_id(kHandoff);
  const auto status = source_->Call(&TscAgent::CommitHandoff, commit).status();
  ExpectRefused(status, absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
  EXPECT_EQ(client::MetadataOf(status)["field"], "side");
}

TEST_F(DurableHandoffTest, ARunningVmKeepsItsPermit) {
  ASSERT_TRUE(pair_.source_vm->Resume().ok());
  ExpectRefused(Capture().status(), absl::StatusCode::kFailedPrecondition, "VM_RUNNING");
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  pair_.source_vm->Pause();
  EXPECT_TRUE(Await([&] { return pair_.source_vm->Resume().ok(); }));
}

TEST_F(DurableHandoffTest, AVmThatHasNotArrivedCannotBeHandedOn) {
  v1::GetTscStateRequest request;
  request.set_vm_id(pair_.destination_vm->vm_id());
  request.set_handoff_id("onward");
  request.set_destination_agent_id(AgentId(*source_));
  request.set_destination_vm_id("anywhere");
  ExpectRefused(destination_->Call(&TscAgent::GetTscState, request).status(),
                absl::StatusCode::kAborted, "HANDOFF_CONFLICT");
}

TEST_F(DurableHandoffTest, HandoffsAreListedLastBegunFirst) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Capture(absl::StrCat("h", i)).ok());
    if (i < 4) {
      ASSERT_TRUE(AbortSource(absl::StrCat("h", i)).ok());
    }
  }
  v1::ListHandoffsRequest request;
  request.set_page_size(2);
  std::vector<std::string> ids;
  do {
    const auto page = source_->Call(&TscAgent::ListHandoffs, request);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_LE(page->handoffs_size(), 2);
    for (const v1::Handoff& handoff : page->handoffs()) ids.push_back(handoff.handoff_id());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(ids, ElementsAre("h4", "h3", "h2", "h1", "h0"));

  v1::ListHandoffsRequest pending;
  pending.set_pending_only(true);
  const auto left = source_->Call(&TscAgent::ListHandoffs, pending);
  ASSERT_TRUE(left.ok()) << left.status();
  ASSERT_EQ(left->handoffs_size(), 1);
  EXPECT_EQ(left->handoffs(0).handoff_id(), "h4");
  EXPECT_EQ(left->handoffs(0).ticket().epoch(), 5u);

  v1::ListHandoffsRequest other_vm;
  other_vm.set_vm_id("other");
  EXPECT_EQ(source_->Call(&TscAgent::ListHandoffs, other_vm)->handoffs_size(), 0);
  v1::ListHandoffsRequest bad;
  bad.set_page_token("17x");
  ExpectRefused(source_->Call(&TscAgent::ListHandoffs, bad).status(),
                absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
  bad.clear_page_token();
  bad.set_page_size(1001);
  ExpectRefused(source_->Call(&TscAgent::ListHandoffs, bad).status(),
                absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
}

TEST_F(DurableHandoffTest, AWatcherSeesWhatIsPendingAndThenEachChange) {
  ASSERT_TRUE(Capture().ok());
  grpc::ClientContext context;
  const auto stream = destination_->stub().WatchHandoffs(&context, v1::WatchHandoffsRequest());
  grpc::ClientContext source_context;
  const auto source_stream =
      source_->stub().WatchHandoffs(&source_context, v1::WatchHandoffsRequest());
  v1::WatchHandoffsResponse message;
  ASSERT_TRUE(source_stream->Read(&message));
  EXPECT_TRUE(message.initial());
  EXPECT_EQ(message.handoff().state(), v1::Handoff::STATE_CAPTURED);
  ASSERT_TRUE(AbortSource().ok());
  ASSERT_TRUE(source_stream->Read(&message));
  EXPECT_FALSE(message.initial());
  EXPECT_EQ(message.handoff().state(), v1::Handoff::STATE_ABORTED);

  pair_.source->StopAgent();
  EXPECT_FALSE(source_stream->Read(&message));
  EXPECT_EQ(source_stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  context.TryCancel();
  while (stream->Read(&message)) continue;
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// Both agents are started anew, which is what a crash leaves: their journals.
class RestartTest : public DurableHandoffTest {
 protected:
  // A short path, as sockets need one.
  static std::string NewDirectory() {
    char directory[] = "/tmp/durable-XXXXXX";
    EXPECT_NE(mkdtemp(directory), nullptr);
    return directory;
  }
  static PairOptions WithSockets(const std::string& directory) {
    PairOptions options = Options();
    options.source.agent.vmm_socket = directory + "/source.sock";
    options.destination.agent.vmm_socket = directory + "/destination.sock";
    options.in_process = false;
    return options;
  }
  explicit RestartTest(const std::string& directory = NewDirectory())
      : DurableHandoffTest(WithSockets(directory)), directory_(directory) {}
  ~RestartTest() override { std::filesystem::remove_all(directory_); }

  void RestartBoth() {
    pair_.source->StopAgent();
    pair_.destination->StopAgent();
    ASSERT_TRUE(pair_.source->StartAgent().ok());
    ASSERT_TRUE(pair_.destination->StartAgent().ok());
    Connect();
    // The VMMs come back by themselves.
    for (Stub* stub : {source_.get(), destination_.get()}) {
      ASSERT_TRUE(Await([&] {
        const auto vms = stub->Call(&TscAgent::ListVms, v1::ListVmsRequest());
        return vms.ok() && vms->vms_size() == 1;
      }));
    }
  }

 private:
  const std::string directory_;
};

TEST_F(RestartTest, AHandoffGoesOnAfterARestartAtEachStep) {
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  RestartBoth();
  EXPECT_THAT(MayRun(), ElementsAre(false, false));
  EXPECT_EQ(Capture()->SerializeAsString(), captured->SerializeAsString());

  const auto applied = Apply(captured->state());
  ASSERT_TRUE(applied.ok()) << applied.status();
  RestartBoth();
  EXPECT_THAT(MayRun(), ElementsAre(false, false));
  EXPECT_EQ(Apply(captured->state())->SerializeAsString(), applied->SerializeAsString());

  const auto released = CommitSource();
  ASSERT_TRUE(released.ok()) << released.status();
  RestartBoth();
  EXPECT_THAT(MayRun(), ElementsAre(false, false));
  EXPECT_EQ(Known(*source_, v1::Handoff::SIDE_SOURCE).release_proof(), released->release_proof());

  ASSERT_TRUE(CommitDestination(released->release_proof()).ok());
  RestartBoth();
  EXPECT_THAT(MayRun(), ElementsAre(false, true));
  EXPECT_TRUE(Await([&] { return pair_.destination_vm->Resume().ok(); }));
  EXPECT_FALSE(pair_.source_vm->Resume().ok());
}

TEST_F(RestartTest, AnAbortIsRememberedAndUndone) {
  Snapshot before = Look(*pair_.destination_vm);
  before.master_clock = true;  // see AnAbortGivesBothWhatTheyHad
  BringToApplied();
  const auto aborted = AbortSource();
  ASSERT_TRUE(aborted.ok()) << aborted.status();
  RestartBoth();
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  const auto undone = AbortDestination(Known(*source_, v1::Handoff::SIDE_SOURCE));
  ASSERT_TRUE(undone.ok()) << undone.status();
  EXPECT_TRUE(undone->restored());
  ExpectUnchanged(*pair_.destination_vm, before, 2'000);
}

TEST_F(RestartTest, AVmThatWasLostAfterTheApplyIsGivenTheStateAgain) {
  BringToApplied();
  const auto released = CommitSource();
  ASSERT_TRUE(released.ok()) << released.status();
  // Its VMM dies, and another one takes its place.
  sim::SimGuestOptions options = Options().destination_guest;
  pair_.destination_vm.reset();
  ASSERT_TRUE(Await([&] { return Known(*destination_, v1::Handoff::SIDE_DESTINATION).vm_lost(); }));
  ExpectRefused(CommitDestination(released->release_proof()).status(), absl::StatusCode::kNotFound,
                "VM_NOT_FOUND");
  auto again = pair_.destination->AddGuest(options, false);
  ASSERT_TRUE(again.ok()) << again.status();
  pair_.destination_vm = *std::move(again);
  ExpectRefused(CommitDestination(released->release_proof()).status(),
                absl::StatusCode::kFailedPrecondition, "HANDOFF_UNDECIDED");
  EXPECT_THAT(MayRun(), ElementsAre(false, false));

  const auto state = Capture();
  ASSERT_TRUE(state.ok()) << state.status();
  const auto applied = Apply(state->state());
  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair_, *applied, pair_.source->options().host.clock.tsc_khz);
  ASSERT_TRUE(CommitDestination(released->release_proof()).ok());
  EXPECT_THAT(MayRun(), ElementsAre(false, true));
}

TEST_F(RestartTest, AVmThatWasReleasedStaysBarredUntilItComesBack) {
  BringToApplied();
  CommitBoth();
  // A new VMM under the same id, as a supervisor would start it.
  sim::SimGuestOptions options = Options().guest;
  pair_.source_vm.reset();
  ASSERT_TRUE(Await(
      [&] { return source_->Call(&TscAgent::ListVms, v1::ListVmsRequest())->vms_size() == 0; }));
  auto again = pair_.source->AddGuest(options, false);
  ASSERT_TRUE(again.ok()) << again.status();
  pair_.source_vm = *std::move(again);
  EXPECT_FALSE(pair_.source_vm->Resume().ok());

  // The way back: destination and source change places.
  v1::GetTscStateRequest capture;
  capture.set_vm_id(pair_.destination_vm->vm_id());
  capture.set_handoff_id("back");
  capture.set_destination_agent_id(AgentId(*source_));
  capture.set_destination_vm_id(pair_.source_vm->vm_id());
  const auto captured = destination_->Call(&TscAgent::GetTscState, capture);
  ASSERT_TRUE(captured.ok()) << captured.status();
  pair_.time->Advance(10'000'000);
  v1::SetTscStateRequest apply = ApplyRequest(captured->state());
  apply.set_vm_id(pair_.source_vm->vm_id());
  const auto applied = source_->Call(&TscAgent::SetTscState, apply);
  ASSERT_TRUE(applied.ok()) << applied.status();
  v1::CommitHandoffRequest commit;
  commit.set_handoff_id("back");
  commit.set_side(v1::Handoff::SIDE_SOURCE);
  const auto released = destination_->Call(&TscAgent::CommitHandoff, commit);
  ASSERT_TRUE(released.ok()) << released.status();
  EXPECT_EQ(released->handoff().ticket().epoch(), 2u);
  commit.set_side(v1::Handoff::SIDE_DESTINATION);
  commit.set_release_proof(released->handoff().release_proof());
  ASSERT_TRUE(source_->Call(&TscAgent::CommitHandoff, commit).ok());
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  EXPECT_TRUE(Await([&] { return pair_.source_vm->Resume().ok(); }));
}

// The VM comes back to its source, or leaves its destination, without a handoff; an operator says
// so.
class ReclaimTest : public RestartTest {
 protected:
  absl::StatusOr<v1::ReclaimVmResponse> Reclaim(bool vouched = true, uint64_t epoch_above = 0,
                                                const std::string& id = kHandoff) {
    v1::ReclaimVmRequest request;
    request.set_vm_id(source_vm_id_);
    request.set_handoff_id(id);
    request.set_runs_nowhere_else(vouched);
    request.set_epoch_above(epoch_above);
    return source_->Call(&TscAgent::ReclaimVm, request);
  }

  absl::StatusOr<v1::DisownVmResponse> Disown(const std::string& id = kHandoff) {
    v1::DisownVmRequest request;
    request.set_vm_id(destination_vm_id_);
    request.set_handoff_id(id);
    return destination_->Call(&TscAgent::DisownVm, request);
  }

  void SetUp() override {
    RestartTest::SetUp();
    source_vm_id_ = pair_.source_vm->vm_id();
    destination_vm_id_ = pair_.destination_vm->vm_id();
  }

  // What a plain migration does to the destination's VMM.
  void LeaveDestination() {
    pair_.destination_vm.reset();
    ASSERT_TRUE(Await([&] {
      return destination_->Call(&TscAgent::ListVms, v1::ListVmsRequest())->vms_size() == 0;
    }));
  }

  void AwaitAtDestination() {
    auto again = pair_.destination->AddGuest(Options().destination_guest, false);
    ASSERT_TRUE(again.ok()) << again.status();
    pair_.destination_vm = *std::move(again);
  }

  std::string source_vm_id_;
  std::string destination_vm_id_;
};

TEST_F(ReclaimTest, AVmThatCameBackMayRunAndBeHandedOffAgain) {
  BringToApplied();
  CommitBoth();
  EXPECT_EQ(client::ReasonOf(Capture("again").status()), v1::HANDOFF_CONFLICT);
  ExpectRefused(Disown().status(), absl::StatusCode::kFailedPrecondition, "CLAIM_REFUSED");
  LeaveDestination();
  auto disowned = Disown();
  ASSERT_TRUE(disowned.ok()) << disowned.status();
  EXPECT_EQ(disowned->epoch(), 1u);
  EXPECT_FALSE(disowned->repeated());
  EXPECT_TRUE(Disown()->repeated());
  EXPECT_FALSE(SourceVm().may_run());

  auto reclaimed = Reclaim(true, disowned->epoch());
  ASSERT_TRUE(reclaimed.ok()) << reclaimed.status();
  EXPECT_EQ(reclaimed->epoch(), 2u);
  EXPECT_FALSE(reclaimed->repeated());
  reclaimed = Reclaim(true, 77);
  ASSERT_TRUE(reclaimed.ok()) << reclaimed.status();
  EXPECT_TRUE(reclaimed->repeated());
  EXPECT_EQ(reclaimed->epoch(), 2u) << "nothing has changed";
  const v1::Handoff overruled = Known(*source_, v1::Handoff::SIDE_SOURCE);
  EXPECT_EQ(overruled.state(), v1::Handoff::STATE_ABORTED);
  EXPECT_TRUE(overruled.release_proof().empty());
  EXPECT_EQ(overruled.abort_proof().size(), 16u);

  AwaitAtDestination();
  RestartBoth();
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  EXPECT_THAT(DestinationVm().may_not_run_reason(), HasSubstr("disowned"));
  EXPECT_TRUE(Await([&] { return pair_.source_vm->Resume().ok(); }));
  pair_.source_vm->Pause();

  const auto captured = Capture("again");
  ASSERT_TRUE(captured.ok()) << captured.status();
  ASSERT_TRUE(Apply(captured->state()).ok());
  const auto released = CommitSource("again");
  ASSERT_TRUE(released.ok()) << released.status();
  EXPECT_EQ(released->ticket().epoch(), 3u);
  ASSERT_TRUE(CommitDestination(released->release_proof(), "again").ok());
  EXPECT_THAT(MayRun(), ElementsAre(false, true));
  // An order that was given for the handoff before does not overrule this one.
  ExpectRefused(Reclaim().status(), absl::StatusCode::kFailedPrecondition, "CLAIM_REFUSED");
  ExpectRefused(Disown().status(), absl::StatusCode::kFailedPrecondition, "CLAIM_REFUSED");
  EXPECT_THAT(MayRun(), ElementsAre(false, true));
}

TEST_F(ReclaimTest, ADestinationAtWhichItNeverArrivedGivesUp) {
  BringToApplied();
  const auto released = CommitSource();
  ASSERT_TRUE(released.ok()) << released.status();
  // The destination's host is lost, and the VM is begun anew where it was.
  ExpectRefused(Reclaim(/*vouched=*/false).status(), absl::StatusCode::kInvalidArgument,
                "REQUEST_INVALID");
  EXPECT_THAT(MayRun(), ElementsAre(false, false));
  const auto reclaimed = Reclaim(true, 40);
  ASSERT_TRUE(reclaimed.ok()) << reclaimed.status();
  EXPECT_EQ(reclaimed->epoch(), 41u);
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
  // It comes back. Who finishes the handoff asks the source first, and is told that it is aborted.
  ExpectRefused(CommitSource().status(), absl::StatusCode::kFailedPrecondition, "HANDOFF_DECIDED");
  const auto undone = AbortDestination(Known(*source_, v1::Handoff::SIDE_SOURCE));
  ASSERT_TRUE(undone.ok()) << undone.status();
  EXPECT_TRUE(undone->restored());
  ExpectRefused(CommitDestination(released->release_proof()).status(),
                absl::StatusCode::kFailedPrecondition, "HANDOFF_DECIDED");
  EXPECT_THAT(MayRun(), ElementsAre(true, false));
}

TEST_F(ReclaimTest, AWrongWordIsNoticedWhenTheVmIsHandedBack) {
  BringToApplied();
  CommitBoth();
  ASSERT_TRUE(Reclaim().ok());
  EXPECT_THAT(MayRun(), ElementsAre(true, true)) << "what an operator must not say";
  v1::GetTscStateRequest capture;
  capture.set_vm_id(destination_vm_id_);
  capture.set_handoff_id("back");
  capture.set_destination_agent_id(AgentId(*source_));
  capture.set_destination_vm_id(source_vm_id_);
  const auto captured = destination_->Call(&TscAgent::GetTscState, capture);
  ASSERT_TRUE(captured.ok()) << captured.status();
  pair_.time->Advance(10'000'000);
  v1::SetTscStateRequest apply = ApplyRequest(captured->state());
  apply.set_vm_id(source_vm_id_);
  const auto applied = source_->Call(&TscAgent::SetTscState, apply);
  EXPECT_TRUE(client::ReasonOf(applied.status()) == v1::HANDOFF_CONFLICT ||
              client::ReasonOf(applied.status()) == v1::STALE_EPOCH)
      << applied.status();
}

TEST_F(ReclaimTest, NothingIsReclaimedInTheMiddleOfAHandoffOrByAHalfRequest) {
  ExpectRefused(Reclaim().status(), absl::StatusCode::kFailedPrecondition, "CLAIM_REFUSED");
  BringToApplied();
  ExpectRefused(Reclaim().status(), absl::StatusCode::kAborted, "HANDOFF_CONFLICT");
  ExpectRefused(Disown().status(), absl::StatusCode::kAborted, "HANDOFF_CONFLICT");
  ASSERT_TRUE(CommitSource().ok());
  ExpectRefused(Reclaim(true, ~uint64_t{0}).status(), absl::StatusCode::kInvalidArgument,
                "REQUEST_INVALID");
  ExpectRefused(Reclaim(true, 0, "").status(), absl::StatusCode::kInvalidArgument,
                "REQUEST_INVALID");
  ExpectRefused(Reclaim(true, 0, "another").status(), absl::StatusCode::kFailedPrecondition,
                "CLAIM_REFUSED");
  v1::ReclaimVmRequest without_deadline;
  without_deadline.set_vm_id(source_vm_id_);
  without_deadline.set_handoff_id(kHandoff);
  without_deadline.set_runs_nowhere_else(true);
  ExpectRefused(
      source_->Call(&TscAgent::ReclaimVm, without_deadline, absl::InfiniteDuration()).status(),
      absl::StatusCode::kInvalidArgument, "REQUEST_INVALID");
  pair_.source_vm.reset();
  ASSERT_TRUE(Await(
      [&] { return source_->Call(&TscAgent::ListVms, v1::ListVmsRequest())->vms_size() == 0; }));
  ExpectRefused(Reclaim().status(), absl::StatusCode::kNotFound, "VM_NOT_FOUND");
}

class UndecidedTest : public DurableHandoffTest {
 protected:
  static PairOptions Impatient() {
    PairOptions options = Options();
    options.source.agent.undecided_after_ns = 1;
    return options;
  }
  UndecidedTest() : DurableHandoffTest(Impatient()) {}
};

TEST_F(UndecidedTest, AHandoffThatNobodyAsksAboutIsReported) {
  ASSERT_TRUE(Capture().ok());
  v1::ListHandoffsRequest stuck;
  stuck.set_undecided_only(true);
  ASSERT_TRUE(Await([&] {
    const auto list = source_->Call(&TscAgent::ListHandoffs, stuck);
    return list.ok() && list->handoffs_size() == 1 && list->handoffs(0).undecided();
  }));
  EXPECT_THAT(MayRun(), ElementsAre(false, false)) << "it stays paused";
  ASSERT_TRUE(AbortSource().ok());
  EXPECT_EQ(source_->Call(&TscAgent::ListHandoffs, stuck)->handoffs_size(), 0);
}

absl::StatusOr<v1::DrainResponse> Drain(Stub& stub, v1::DrainRequest::Mode mode) {
  v1::DrainRequest request;
  request.set_mode(mode);
  return stub.Call(&TscAgent::Drain, request);
}

TEST_F(DurableHandoffTest, ADrainingSourceGoesOnWithWhatIsOpenAndBeginsNothing) {
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  auto drained = Drain(*source_, v1::DrainRequest::MODE_DRAIN);
  ASSERT_TRUE(drained.ok()) << drained.status();
  EXPECT_EQ(drained->open_handoffs(), 1u);
  EXPECT_TRUE(source_->Call(&TscAgent::GetHostInfo, v1::GetHostInfoRequest())->host().draining());
  // What was asked before is answered again, and is brought to its end.
  EXPECT_TRUE(Capture().ok());
  ASSERT_TRUE(Apply(captured->state()).ok());
  CommitBoth();
  drained = Drain(*source_, v1::DrainRequest::MODE_DRAIN);
  ASSERT_TRUE(drained.ok());
  EXPECT_EQ(drained->open_handoffs(), 0u);
}

TEST_F(DurableHandoffTest, ADrainingAgentBeginsNoHandoffOnEitherSide) {
  ASSERT_TRUE(Drain(*source_, v1::DrainRequest::MODE_DRAIN).ok());
  EXPECT_EQ(client::ReasonOf(Capture().status()), v1::AGENT_DRAINING);
  EXPECT_TRUE(pair_.source_vm->MayRun().ok());
  ASSERT_TRUE(Drain(*source_, v1::DrainRequest::MODE_SERVE).ok());
  const auto captured = Capture();
  ASSERT_TRUE(captured.ok()) << captured.status();
  ASSERT_TRUE(Drain(*destination_, v1::DrainRequest::MODE_DRAIN).ok());
  EXPECT_EQ(client::ReasonOf(Apply(captured->state()).status()), v1::AGENT_DRAINING);
  EXPECT_EQ(client::ReasonOf(Drain(*destination_, v1::DrainRequest::MODE_UNSPECIFIED).status()),
            v1::REQUEST_INVALID);
  ASSERT_TRUE(Drain(*destination_, v1::DrainRequest::MODE_SERVE).ok());
  ASSERT_TRUE(Apply(captured->state()).ok());
  CommitBoth();
}

TEST_F(DurableHandoffTest, AnAgentWithoutAConfigurationFileSaysSo) {
  const auto reloaded = source_->Call(&TscAgent::Reload, v1::ReloadRequest());
  EXPECT_EQ(client::ReasonOf(reloaded.status()), v1::CONFIG_INVALID);
}

}  // namespace
}  // namespace tsc_handoff
