// TSC states, whole or with a right checksum around anything, and the requests that carry them. The
// agents' codec and the clients' reader, which were written apart, agree on what is a state, and
// what the codec takes it gives back unchanged.
#include "client/lib/state_view.h"
#include "client/lib/testing/seal_state.h"
#include "server/service/convert.h"
#include "server/state/random_state.h"
#include "server/state/tsc_state_codec.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/message_mutator.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

namespace v1 = ::tschandoff::v1;

enum Kind : uint8_t { kSealed = 0, kPayload = 1, kSetRequest = 2, kGetRequest = 3, kKinds = 4 };

void TryState(const v1::TscState& sealed) {
  const auto state = state::Decode(sealed);
  const auto view = client::DecodeState(sealed);
  FUZZ_CHECK(state.ok() == view.ok());
  if (!state.ok()) return;
  const v1::TscState once = state::Encode(*state);
  const auto again = state::Decode(once);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(state::Encode(*again).SerializeAsString() == once.SerializeAsString());
}

template <typename Message>
bool Parse(const std::string& bytes, Message& out) {
  return out.ParseFromString(bytes);
}

std::string Input(Kind kind, const std::string& bytes) {
  return std::string(1, static_cast<char>(kind)) + bytes;
}

}  // namespace

std::unique_ptr<google::protobuf::Message> MessageOf(uint8_t kind) {
  switch (kind % kKinds) {
    case kSealed:
      return std::make_unique<v1::TscState>();
    case kPayload:
      return std::make_unique<v1::TscStatePayload>();
    case kSetRequest:
      return std::make_unique<v1::SetTscStateRequest>();
    default:
      return std::make_unique<v1::GetTscStateRequest>();
  }
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  state::RandomState random(7);
  for (int i = 0; i < 8; ++i) {
    const v1::TscState sealed = state::Encode(random.Next());
    seeds.push_back(Input(kSealed, sealed.SerializeAsString()));
    seeds.push_back(Input(kPayload, sealed.payload()));
    v1::SetTscStateRequest set;
    set.set_vm_id("vm1");
    set.set_mode(v1::APPLY_MODE_ELAPSED);
    set.set_max_error_ns(1'000'000);
    *set.mutable_state() = sealed;
    seeds.push_back(Input(kSetRequest, set.SerializeAsString()));
  }
  v1::GetTscStateRequest get;
  get.set_vm_id("vm1");
  seeds.push_back(Input(kGetRequest, get.SerializeAsString()));
  return seeds;
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  Bytes bytes(data, size);
  const uint8_t kind = bytes.Take<uint8_t>() % kKinds;
  const std::string rest = bytes.TakeRest();
  if (kind == kSealed) {
    v1::TscState sealed;
    if (Parse(rest, sealed)) TryState(sealed);
  } else if (kind == kPayload) {
    v1::TscStatePayload payload;
    if (Parse(rest, payload)) TryState(client::SealState(payload));
  } else if (kind == kSetRequest) {
    v1::SetTscStateRequest request;
    if (Parse(rest, request)) (void)service::FromProto(request);
  } else {
    v1::GetTscStateRequest request;
    if (Parse(rest, request)) (void)service::CheckRequest(request);
  }
  return 0;
}
