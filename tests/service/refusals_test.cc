// What the agent refuses, and that it then has changed nothing: one row per refusal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/service/pair.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;

struct SetCase {
  const char* name;
  StatusCode code;
  const char* reason;
  // Arranges the pair before the capture, and the pair and the request after it; either may be
  // null.
  void (*options)(PairOptions&);
  void (*arrange)(Pair&, v1::SetTscStateRequest&);
  const char* metadata_key = "";
  const char* metadata_value = "";
  bool reaches_kvm = false;  // is found out by writing, and undone
};

void PrintTo(const SetCase& set_case, std::ostream* out) { *out << set_case.name; }

void OneVcpuLess(Pair& /*pair*/, v1::SetTscStateRequest& request) {
  *request.mutable_state() =
      Changed(request.state(), [](time::TscState& state) { state.vcpus.pop_back(); });
}

const SetCase kSetCases[] = {
    {"UnknownVm", StatusCode::kNotFound, "VM_NOT_FOUND", nullptr,
     [](Pair&, auto& request) { request.set_vm_id("nobody"); }, "vm_id", "nobody"},
    {"NoVmId", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.clear_vm_id(); }, "field", "vm_id"},
    {"VmIdTooLong", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.set_vm_id(std::string(129, 'x')); }, "field", "vm_id"},
    {"VmIdWithASlash", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.set_vm_id("a/b"); }, "field", "vm_id"},
    {"NoState", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.clear_state(); }, "field", "state"},
    {"NoMode", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.clear_mode(); }, "field", "mode"},
    {"UnknownMode", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.set_mode(static_cast<v1::ApplyMode>(99)); }, "field",
     "mode"},
    {"MaxErrorTooLong", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.set_max_error_ns(uint64_t{1} << 63); }, "field",
     "max_error_ns"},
    {"MaxElapsedTooLong", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, auto& request) { request.set_max_elapsed_ns(std::numeric_limits<uint64_t>::max()); },
     "field", "max_elapsed_ns"},

    {"OneVcpuLess", StatusCode::kFailedPrecondition, "VCPU_SET_MISMATCH", nullptr, OneVcpuLess,
     "vcpu_id", "3"},
    {"OneVcpuMore", StatusCode::kFailedPrecondition, "VCPU_SET_MISMATCH", nullptr,
     [](Pair&, auto& request) {
       *request.mutable_state() = Changed(request.state(), [](time::TscState& state) {
         state.vcpus.push_back(state.vcpus.back());
         state.vcpus.back().id = 9;
       });
     },
     "vcpu_id", "9"},
    {"OtherVcpuIds", StatusCode::kFailedPrecondition, "VCPU_SET_MISMATCH", nullptr,
     [](Pair&, auto& request) {
       *request.mutable_state() =
           Changed(request.state(), [](time::TscState& state) { state.vcpus[3].id = 8; });
     },
     "vcpu_id", "3"},
    {"SparseVmDenseState", StatusCode::kFailedPrecondition, "VCPU_SET_MISMATCH",
     [](PairOptions& options) {
       options.destination_guest.vcpu_ids = {0, 2, 4, 6};
     },
     nullptr, "vcpu_id", "1"},
    {"OneVcpuOfTwoIsMissing", StatusCode::kFailedPrecondition, "VCPU_SET_MISMATCH",
     [](PairOptions& options) { options.guest.vcpu_ids = {5}; }, nullptr, "state_vcpus", "1"},

    {"VmRunning", StatusCode::kFailedPrecondition, "VM_RUNNING", nullptr,
     [](Pair& pair, auto&) { EXPECT_TRUE(pair.destination_vm->Resume().ok()); }, "vm_id", "vm"},

    {"ProtectedTsc", StatusCode::kFailedPrecondition, "TSC_PROTECTED",
     [](PairOptions& options) { options.destination.host.kvm.tsc_protected = true; }, nullptr,
     "vcpu_id", "0", true},
    {"AdjustNotKept", StatusCode::kFailedPrecondition, "TSC_ADJUST_UNSUPPORTED",
     [](PairOptions& options) { options.destination_guest.vcpu.cpuid_tsc_adjust = false; }, nullptr,
     "vcpu_id", "1", true},
    {"NoScaling", StatusCode::kFailedPrecondition, "TSC_KHZ_UNSUPPORTED",
     [](PairOptions& options) { options.destination.host.kvm.tsc_control = false; }, nullptr,
     "tsc_scaling", "false"},
    {"RatioTooLarge", StatusCode::kFailedPrecondition, "TSC_KHZ_UNSUPPORTED", nullptr,
     [](Pair&, auto& request) {
       *request.mutable_state() = Changed(request.state(), [](time::TscState& state) {
         state.guest_khz = std::numeric_limits<uint32_t>::max();
       });
     },
     "guest_khz", "4294967295"},

    {"FlippedBit", StatusCode::kDataLoss, "STATE_CORRUPT", nullptr,
     [](Pair&, auto& request) { (*request.mutable_state()->mutable_payload())[20] ^= 4; }},
    {"WrongChecksum", StatusCode::kDataLoss, "STATE_CORRUPT", nullptr,
     [](Pair&, auto& request) { request.mutable_state()->set_crc32(request.state().crc32() + 1); }},
    {"TruncatedState", StatusCode::kDataLoss, "STATE_CORRUPT", nullptr,
     [](Pair&, auto& request) { request.mutable_state()->mutable_payload()->pop_back(); }},
    {"EmptyPayload", StatusCode::kDataLoss, "STATE_CORRUPT", nullptr,
     [](Pair&, auto& request) { request.mutable_state()->clear_payload(); }},
    {"PayloadOverItsLimit", StatusCode::kDataLoss, "STATE_CORRUPT", nullptr,
     [](Pair&, auto& request) {
       request.mutable_state()->set_payload(std::string(300 * 1024, 'x'));
     }},
    {"NewerState", StatusCode::kFailedPrecondition, "STATE_VERSION_UNSUPPORTED", nullptr,
     [](Pair&, auto& request) { request.mutable_state()->set_format_version(2); }, "found", "2"},
    {"StateWithoutVersion", StatusCode::kFailedPrecondition, "STATE_VERSION_UNSUPPORTED", nullptr,
     [](Pair&, auto& request) { request.mutable_state()->clear_format_version(); }},

    {"StateWithoutTime", StatusCode::kFailedPrecondition, "STATE_WITHOUT_TIME", nullptr,
     [](Pair&, auto& request) {
       *request.mutable_state() =
           Changed(request.state(), [](time::TscState& state) { state.reference.reset(); });
     }},
    {"ElapsedNegative", StatusCode::kFailedPrecondition, "TIME_WOULD_GO_BACK", nullptr,
     [](Pair& pair, auto&) {
       pair.destination->host().clock().SetRealtimeErrorNs(-1'000'000'000);
     }},
    {"ElapsedTooLong", StatusCode::kFailedPrecondition, "ELAPSED_OUT_OF_RANGE", nullptr,
     [](Pair& pair, auto&) { pair.time->Advance(300'000'000'000); }, "limit", "300000000000"},
    {"ElapsedLongerThanAsked", StatusCode::kFailedPrecondition, "ELAPSED_OUT_OF_RANGE", nullptr,
     [](Pair&, auto& request) { request.set_max_elapsed_ns(49'000'000); }, "limit", "49000000"},
    {"SourceUntrusted", StatusCode::kFailedPrecondition, "CLOCK_UNTRUSTED", nullptr,
     [](Pair& pair, auto& request) {
       pair.source->clock().Distrust("test");
       *request.mutable_state() = pair.Capture().state();
     },
     "side", "source"},
    {"DestinationUntrusted", StatusCode::kFailedPrecondition, "CLOCK_UNTRUSTED", nullptr,
     [](Pair& pair, auto&) { pair.destination->clock().Distrust("test"); }, "side", "destination"},
    {"UntrustedNotPermitted", StatusCode::kFailedPrecondition, "CLOCK_UNTRUSTED", nullptr,
     [](Pair& pair, auto& request) {
       pair.destination->clock().Distrust("test");
       request.set_allow_untrusted_clock(true);
     },
     "side", "destination"},
    {"BoundAboveTheAgentsLimit", StatusCode::kFailedPrecondition, "CLOCK_BOUND_EXCEEDED", nullptr,
     [](Pair& pair, auto&) { pair.destination->clock().Trust(1'500'000); }, "limit", "1000000"},
    {"BoundAboveTheRequestsLimit", StatusCode::kFailedPrecondition, "CLOCK_BOUND_EXCEEDED", nullptr,
     [](Pair&, auto& request) { request.set_max_error_ns(30'000); }, "limit", "30000"},
    {"RequestMayNotRaiseTheLimit", StatusCode::kFailedPrecondition, "CLOCK_BOUND_EXCEEDED", nullptr,
     [](Pair& pair, auto& request) {
       pair.destination->clock().Trust(1'500'000);
       request.set_max_error_ns(100'000'000);
     },
     "limit", "1000000"},

    {"HostTscUnstable", StatusCode::kFailedPrecondition, "HOST_TSC_UNSTABLE",
     [](PairOptions& options) { options.destination.tsc_unstable_reason = "clocksource is hpet"; },
     nullptr},
    {"KvmUnavailable", StatusCode::kFailedPrecondition, "KVM_UNAVAILABLE",
     [](PairOptions& options) { options.destination.kvm_unavailable_reason = "no /dev/kvm"; },
     nullptr},
};

class SetRefusal : public testing::TestWithParam<SetCase> {};

TEST_P(SetRefusal, SaysWhyAndWhatToDoAndChangesNothing) {
  const SetCase& set_case = GetParam();
  PairOptions options;
  if (set_case.options != nullptr) set_case.options(options);
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  if (set_case.arrange != nullptr) set_case.arrange(pair, request);
  const Snapshot before = Look(*pair.destination_vm);
  pair.destination->host().ClearCalls();

  auto answer = pair.to->SetTscState(request);

  ASSERT_FALSE(answer.ok());
  ExpectRefused(answer.status(), set_case.code, set_case.reason);
  EXPECT_FALSE(client::IsOutcomeUnknown(answer.status()));
  if (set_case.metadata_key[0] != '\0') {
    EXPECT_EQ(client::MetadataOf(answer.status())[set_case.metadata_key], set_case.metadata_value);
  }
  EXPECT_TRUE(set_case.reaches_kvm || pair.destination->host().Calls().empty());
  ExpectUnchanged(*pair.destination_vm, before);
}

INSTANTIATE_TEST_SUITE_P(All, SetRefusal, testing::ValuesIn(kSetCases),
                         [](const auto& row) { return row.param.name; });

struct GetCase {
  const char* name;
  StatusCode code;
  const char* reason;
  void (*options)(PairOptions&);
  void (*arrange)(Pair&, std::string& vm_id);
};

void PrintTo(const GetCase& get_case, std::ostream* out) { *out << get_case.name; }

const GetCase kGetCases[] = {
    {"UnknownVm", StatusCode::kNotFound, "VM_NOT_FOUND", nullptr,
     [](Pair&, std::string& vm_id) { vm_id = "nobody"; }},
    {"NoVmId", StatusCode::kInvalidArgument, "REQUEST_INVALID", nullptr,
     [](Pair&, std::string& vm_id) { vm_id.clear(); }},
    {"VmRunning", StatusCode::kFailedPrecondition, "VM_RUNNING", nullptr,
     [](Pair& pair, std::string&) { EXPECT_TRUE(pair.source_vm->Resume().ok()); }},
    {"MixedFrequencies", StatusCode::kFailedPrecondition, "TSC_KHZ_MIXED", nullptr,
     [](Pair& pair, std::string&) {
       const tsc_kvm_ops* ops = pair.source->host().OpsFor(1);
       EXPECT_EQ(ops->ioctl(ops->ctx, pair.source_vm->vcpu_fd(2), KVM_SET_TSC_KHZ,
                            reinterpret_cast<void*>(uintptr_t{2'000'000})),
                 0);
     }},
    {"HostTscUnstable", StatusCode::kFailedPrecondition, "HOST_TSC_UNSTABLE",
     [](PairOptions& options) { options.source.tsc_unstable_reason = "clocksource is hpet"; },
     nullptr},
    {"KvmUnavailable", StatusCode::kFailedPrecondition, "KVM_UNAVAILABLE",
     [](PairOptions& options) { options.source.kvm_unavailable_reason = "no /dev/kvm"; }, nullptr},
};

class GetRefusal : public testing::TestWithParam<GetCase> {};

TEST_P(GetRefusal, SaysWhyAndWhatToDo) {
  PairOptions options;
  if (GetParam().options != nullptr) GetParam().options(options);
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  std::string vm_id = "vm";
  if (GetParam().arrange != nullptr) GetParam().arrange(pair, vm_id);
  const Snapshot before = Look(*pair.source_vm);
  ExpectRefused(pair.from->GetTscState(vm_id).status(), GetParam().code, GetParam().reason);
  ExpectUnchanged(*pair.source_vm, before);
}

INSTANTIATE_TEST_SUITE_P(All, GetRefusal, testing::ValuesIn(kGetCases),
                         [](const auto& row) { return row.param.name; });

TEST(GetVmRefusal, UnknownVm) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  ExpectRefused(pair.from->GetVm("nobody").status(), StatusCode::kNotFound, "VM_NOT_FOUND");
  ExpectRefused(pair.from->GetVm("no/body").status(), StatusCode::kInvalidArgument,
                "REQUEST_INVALID");
}

}  // namespace
}  // namespace tsc_handoff
