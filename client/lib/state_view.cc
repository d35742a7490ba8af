#include "client/lib/state_view.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "server/base/error.h"
#include "server/state/tsc_state_codec.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

// The codec's error as this library's users read errors.
absl::Status FromCodec(const absl::Status& status, uint32_t format_version) {
  const std::optional<Reason> reason = ::tsc_handoff::ReasonOf(status);
  if (reason == Reason::kStateVersionUnsupported && format_version != state::kFormatVersion) {
    return ReasonError(status.code(), v1::STATE_VERSION_UNSUPPORTED,
                       absl::StrCat("the state has format version ", format_version,
                                    "; this client knows version ", state::kFormatVersion),
                       "Use a client at least as new as the agent that wrote it.");
  }
  if (!reason.has_value()) return status;
  return ReasonError(status.code(), static_cast<v1::ErrorReason>(*reason), status.message(),
                     std::string(NextStep(*reason)));
}

}  // namespace

absl::StatusOr<StateView> DecodeState(const v1::TscState& sealed) {
  const absl::StatusOr<time::TscState> opened = state::Decode(sealed);
  if (!opened.ok()) return FromCodec(opened.status(), sealed.format_version());
  StateView view;
  view.format_version = sealed.format_version();
  view.vm_id = opened->vm_id;
  view.guest_tsc_khz = opened->guest_khz;
  view.boot_id = opened->boot_id;
  if (opened->reference.has_value()) view.reference = state::ToProto(*opened->reference);
  if (opened->kvmclock.has_value()) {
    view.kvmclock.emplace();
    view.kvmclock->set_kvmclock_ns(opened->kvmclock->kvmclock_ns);
    view.kvmclock->set_read_error_ns(static_cast<uint64_t>(opened->kvmclock->read_error_ns));
    view.kvmclock->set_master_clock(opened->kvmclock->master_clock);
  }
  for (const time::VcpuTsc& vcpu : opened->vcpus) {
    view.vcpus.push_back({.id = vcpu.id,
                          .guest_tsc_ticks = vcpu.guest_tsc_ticks,
                          .tsc_adjust_ticks = static_cast<int64_t>(vcpu.tsc_adjust_ticks),
                          .tsc_deadline_ticks = vcpu.tsc_deadline_ticks});
  }
  return view;
}

int64_t TickDifference(uint64_t a_ticks, uint64_t b_ticks) {
  return static_cast<int64_t>(a_ticks - b_ticks);
}

uint64_t PhaseSpreadTicks(const StateView& state) {
  if (state.vcpus.empty()) return 0;
  int64_t low = 0;
  int64_t high = 0;
  for (const VcpuView& vcpu : state.vcpus) {
    const int64_t phase = TickDifference(vcpu.guest_tsc_ticks, state.vcpus[0].guest_tsc_ticks);
    low = std::min(low, phase);
    high = std::max(high, phase);
  }
  return static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
}

}  // namespace tsc_handoff::client
