// Limits on VMs' vCPUs, handoffs and streams, exceeded: who is told, and that the others go on.
// Those on connections and bytes are in tests/security.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/service/pair.h"
#include "tests/service/stub.h"

namespace tsc_handoff {
namespace {

using testing::HasSubstr;
using TscAgent = v1::TscAgent::Stub;

class LimitsTest : public testing::Test {
 protected:
  void Start(const PairOptions& options) {
    pair_ = std::make_unique<Pair>(options);
    ASSERT_TRUE(pair_->ok());
    source_ = std::make_unique<Stub>(pair_->source->address());
    ASSERT_TRUE(pair_->source_vm->Resume().ok());
    pair_->time->Advance(1'000'000'000);
    pair_->source_vm->Pause();
  }

  absl::Status Capture(const std::string& handoff_id) {
    v1::GetTscStateRequest request;
    request.set_vm_id(pair_->source_vm->vm_id());
    request.set_handoff_id(handoff_id);
    request.set_destination_agent_id(std::string(16, 'd'));
    request.set_destination_vm_id("elsewhere");
    return source_->Call(&TscAgent::GetTscState, request).status();
  }

  absl::Status Abort(const std::string& handoff_id) {
    v1::AbortHandoffRequest request;
    request.set_handoff_id(handoff_id);
    request.set_side(v1::Handoff::SIDE_SOURCE);
    return source_->Call(&TscAgent::AbortHandoff, request).status();
  }

  std::unique_ptr<Pair> pair_;
  std::unique_ptr<Stub> source_;
};

TEST_F(LimitsTest, AVmWithMoreVcpusThanTheLimitIsRefused) {
  PairOptions options;
  options.source.agent.serving.max_vcpus = 4;
  ASSERT_NO_FATAL_FAILURE(Start(options));  // its VM has 4
  const auto refused = pair_->source->AddGuest(Named("large", 5));
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("VM large has 5 vCPUs, and this agent serves none with more than 4"));
  EXPECT_TRUE(pair_->source->AddGuest(Named("small", 4)).ok());
}

TEST_F(LimitsTest, NoHandoffBeginsBeyondTheLimitAndThoseThatAreOpenGoOn) {
  PairOptions options;
  options.source.agent.serving.max_handoffs = 2;
  ASSERT_NO_FATAL_FAILURE(Start(options));
  ASSERT_TRUE(Capture("first").ok());
  ASSERT_TRUE(Abort("first").ok());
  ASSERT_TRUE(Capture("second").ok());
  EXPECT_TRUE(Capture("second").ok()) << "a repeated one is none more";
  ASSERT_TRUE(Abort("second").ok());
  const absl::Status refused = Capture("third");
  ExpectRefused(refused, absl::StatusCode::kResourceExhausted, "LIMIT_EXCEEDED");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("(--max-handoffs)"));
  EXPECT_TRUE(pair_->source_vm->Resume().ok()) << "nothing has happened to the VM";
}

TEST_F(LimitsTest, AWatcherThatDoesNotReadIsToldSoAndOthersSeeAll) {
  PairOptions options;
  options.source.agent.serving.max_queued_changes = 40;
  ASSERT_NO_FATAL_FAILURE(Start(options));
  grpc::ChannelArguments arguments;  // it takes as little as it can before somebody reads
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
  grpc::ClientContext slow_context;
  TscAgent slow_stub(grpc::CreateCustomChannel(pair_->source->address(),
                                               grpc::InsecureChannelCredentials(), arguments));
  const auto slow = slow_stub.WatchHandoffs(&slow_context, v1::WatchHandoffsRequest());
  grpc::ClientContext quick_context;
  const auto quick = source_->stub().WatchHandoffs(&quick_context, v1::WatchHandoffsRequest());
  v1::WatchHandoffsResponse message;
  constexpr int kHandoffs = 400;
  for (int i = 0; i < kHandoffs; ++i) {
    const std::string id = "handoff-" + std::to_string(i) + std::string(80, 'x');
    ASSERT_TRUE(Capture(id).ok()) << i;
    ASSERT_TRUE(Abort(id).ok()) << i;
    for (const auto state : {v1::Handoff::STATE_CAPTURED, v1::Handoff::STATE_ABORTED}) {
      ASSERT_TRUE(quick->Read(&message)) << i;
      EXPECT_EQ(message.handoff().state(), state) << i;
    }
  }
  int read = 0;
  while (slow->Read(&message)) ++read;
  const grpc::Status ended = slow->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << ended.error_message();
  EXPECT_THAT(ended.error_message(), HasSubstr("the caller reads too slowly"));
  EXPECT_LT(read, 2 * kHandoffs - 40) << "what waited for it is not kept";
  quick_context.TryCancel();
}

}  // namespace
}  // namespace tsc_handoff
