#include "server/state/tsc_state_codec.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "server/base/error.h"

namespace tsc_handoff::state {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr uint32_t kMaxVcpus = 1024;
constexpr uint32_t kMaxVcpuId = 4095;
constexpr size_t kMaxIdLength = 128;
constexpr uint32_t kMaxTaiOffsetS = 1000;
constexpr size_t kBootIdBytes = 16;
constexpr size_t kAgentIdBytes = 16;
constexpr size_t kDigestBytes = 32;

absl::Status Corrupt(absl::string_view field, absl::string_view why) {
  return Error(Reason::kStateCorrupt, absl::StrCat("the state's ", field, " ", why),
               {{"field", std::string(field)}});
}

absl::Status UnknownVersion(uint32_t version) {
  const std::string found =
      version == 0 ? "no format version" : absl::StrCat("format version ", version);
  return Error(Reason::kStateVersionUnsupported,
               absl::StrCat("the state has ", found, "; this agent knows version ", kFormatVersion),
               {{"field", "format_version"},
                {"found", absl::StrCat(version)},
                {"supported", absl::StrCat(kFormatVersion)}});
}

// Fields that version 1 does not have were put there by something newer: ignoring them would be
// guessing.
absl::Status CheckNoUnknownFields(const google::protobuf::Message& message,
                                  absl::string_view field) {
  const auto& unknown = message.GetReflection()->GetUnknownFields(message);
  if (unknown.empty()) return absl::OkStatus();
  const int number = unknown.field(0).number();
  return Error(Reason::kStateVersionUnsupported,
               absl::StrCat("the state's ", field, " has a field number ", number,
                            ", which format version ", kFormatVersion, " does not have"),
               {{"field", std::string(field)}, {"number", absl::StrCat(number)}});
}

uint32_t Checksum(uint32_t version, const std::string& payload) {
  const unsigned char seed[4] = {
      static_cast<unsigned char>(version), static_cast<unsigned char>(version >> 8),
      static_cast<unsigned char>(version >> 16), static_cast<unsigned char>(version >> 24)};
  const uLong seeded = crc32_z(crc32_z(0, nullptr, 0), seed, sizeof(seed));
  return static_cast<uint32_t>(
      crc32_z(seeded, reinterpret_cast<const unsigned char*>(payload.data()), payload.size()));
}

// ---- Encode ----

// Adds the value of each vCPU, or one for all when they are equal, or none when that one is zero
// and may be left out.
template <typename Column>
void EncodeColumn(const std::vector<time::VcpuTsc>& vcpus, uint64_t time::VcpuTsc::*value,
                  bool zero_is_empty, Column& column) {
  using Entry = typename Column::value_type;
  const uint64_t first = vcpus.front().*value;
  const bool equal = std::all_of(vcpus.begin(), vcpus.end(),
                                 [&](const time::VcpuTsc& vcpu) { return vcpu.*value == first; });
  if (equal && first == 0 && zero_is_empty) return;
  if (equal) {
    column.Add(static_cast<Entry>(first));
    return;
  }
  column.Reserve(static_cast<int>(vcpus.size()));
  for (const time::VcpuTsc& vcpu : vcpus) column.Add(static_cast<Entry>(vcpu.*value));
}

void EncodeIds(const std::vector<time::VcpuTsc>& vcpus, v1::TscStatePayload& payload) {
  // Ascending ids are dense exactly when the last one is n - 1.
  if (vcpus.back().id == vcpus.size() - 1) return;
  uint32_t next = 0;
  for (const time::VcpuTsc& vcpu : vcpus) {
    payload.add_vcpu_id_gap(vcpu.id - next);
    next = vcpu.id + 1;
  }
}

// ---- Decode ----

absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t lowest,
                        uint64_t highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();
  return Corrupt(field, absl::StrCat("is ", value, ", not ", lowest, " to ", highest));
}

// A duration or a wall-clock time, which the core keeps signed.
absl::Status CheckNs(absl::string_view field, uint64_t value, uint64_t lowest) {
  return CheckRange(field, value, lowest, std::numeric_limits<int64_t>::max());
}

absl::Status CheckId(absl::string_view field, const std::string& id) {
  if (id.empty() || id.size() > kMaxIdLength) {
    return Corrupt(field, absl::StrCat("has ", id.size(), " characters, not 1 to ", kMaxIdLength));
  }
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == ':' || c == '-';
  };
  if (!std::all_of(id.begin(), id.end(), allowed)) {
    return Corrupt(field, "has characters other than A-Z a-z 0-9 . _ : -");
  }
  return absl::OkStatus();
}

absl::Status CheckBytes(absl::string_view field, const std::string& bytes, size_t size) {
  if (bytes.size() == size) return absl::OkStatus();
  return Corrupt(field, absl::StrCat("has ", bytes.size(), " bytes, not ", size));
}

absl::StatusOr<time::ReferenceMethod> DecodeMethod(v1::TimeReference::Method method) {
  switch (method) {
    case v1::TimeReference::METHOD_BRACKETED:
      return time::ReferenceMethod::kBracketed;
    case v1::TimeReference::METHOD_KVM_GET_CLOCK:
      return time::ReferenceMethod::kKvmGetClock;
    default:
      return Corrupt("reference.method",
                     absl::StrCat("is ", static_cast<int>(method), ", which is no method"));
  }
}

absl::StatusOr<time::TimeReference> DecodeReference(const v1::TimeReference& proto) {
  absl::Status status = CheckNoUnknownFields(proto, "reference");
  status.Update(CheckNs("reference.realtime_ns", proto.realtime_ns(), 1));
  status.Update(CheckRange("reference.tai_offset_s", proto.tai_offset_s(), 0, kMaxTaiOffsetS));
  status.Update(CheckNs("reference.read_error_ns", proto.read_error_ns(), 0));
  status.Update(CheckNs("reference.clock_error_ns", proto.clock_error_ns(), 0));
  status.Update(CheckRange("reference.host_tsc_khz", proto.host_tsc_khz(), 1,
                           std::numeric_limits<uint32_t>::max()));
  if (!status.ok()) return status;
  const absl::StatusOr<time::ReferenceMethod> method = DecodeMethod(proto.method());
  if (!method.ok()) return method.status();
  time::TimeReference reference;
  reference.host_tsc_ticks = proto.host_tsc_ticks();
  reference.realtime_ns = static_cast<int64_t>(proto.realtime_ns());
  reference.tai_offset_s = static_cast<int32_t>(proto.tai_offset_s());
  reference.read_error_ns = static_cast<int64_t>(proto.read_error_ns());
  reference.clock_error_ns = static_cast<int64_t>(proto.clock_error_ns());
  reference.clock_trusted = proto.clock_trusted();
  reference.leap_second = proto.leap_second();
  reference.host_tsc_khz = proto.host_tsc_khz();
  reference.method = *method;
  return reference;
}

absl::StatusOr<time::KvmClockValue> DecodeKvmClock(const v1::KvmClock& proto) {
  absl::Status status = CheckNoUnknownFields(proto, "kvmclock");
  status.Update(CheckNs("kvmclock.read_error_ns", proto.read_error_ns(), 0));
  if (!status.ok()) return status;
  time::KvmClockValue value;
  value.kvmclock_ns = proto.kvmclock_ns();
  value.read_error_ns = static_cast<int64_t>(proto.read_error_ns());
  value.master_clock = proto.master_clock();
  return value;
}

// Gives every vCPU its entry of a column that has one for all, one for each, or, where permitted,
// none: all zero.
template <typename Column>
absl::Status DecodeColumn(absl::string_view field, const Column& column, bool may_be_empty,
                          uint64_t time::VcpuTsc::*value, std::vector<time::VcpuTsc>& vcpus) {
  if (column.empty() && may_be_empty) return absl::OkStatus();
  const auto entries = static_cast<size_t>(column.size());
  if (entries != 1 && entries != vcpus.size()) {
    return Corrupt(field, absl::StrCat("has ", entries, " entries for ", vcpus.size(), " vCPUs"));
  }
  for (size_t i = 0; i < vcpus.size(); ++i) {
    vcpus[i].*value = static_cast<uint64_t>(column[entries == 1 ? 0 : static_cast<int>(i)]);
  }
  return absl::OkStatus();
}

absl::Status DecodeIds(const v1::TscStatePayload& payload, std::vector<time::VcpuTsc>& vcpus) {
  const auto gaps = static_cast<size_t>(payload.vcpu_id_gap_size());
  if (gaps != 0 && gaps != vcpus.size()) {
    return Corrupt("vcpu_id_gap",
                   absl::StrCat("has ", gaps, " entries for ", vcpus.size(), " vCPUs"));
  }
  uint64_t next = 0;
  for (size_t i = 0; i < vcpus.size(); ++i) {
    const uint64_t id = next + (gaps == 0 ? 0 : payload.vcpu_id_gap(static_cast<int>(i)));
    if (id > kMaxVcpuId) {
      return Corrupt("vcpu_id_gap",
                     absl::StrCat("gives vCPU number ", i, " the id ", id, ", above ", kMaxVcpuId));
    }
    vcpus[i].id = static_cast<uint32_t>(id);
    next = id + 1;
  }
  return absl::OkStatus();
}

absl::Status DecodeVcpus(const v1::TscStatePayload& payload, std::vector<time::VcpuTsc>& vcpus) {
  absl::Status status = CheckRange("vcpu_count", payload.vcpu_count(), 1, kMaxVcpus);
  if (!status.ok()) return status;
  vcpus.resize(payload.vcpu_count());
  status.Update(DecodeIds(payload, vcpus));
  status.Update(DecodeColumn("guest_tsc_ticks", payload.guest_tsc_ticks(), /*may_be_empty=*/false,
                             &time::VcpuTsc::guest_tsc_ticks, vcpus));
  status.Update(DecodeColumn("tsc_adjust_ticks", payload.tsc_adjust_ticks(), /*may_be_empty=*/true,
                             &time::VcpuTsc::tsc_adjust_ticks, vcpus));
  status.Update(DecodeColumn("tsc_deadline_ticks", payload.tsc_deadline_ticks(),
                             /*may_be_empty=*/true, &time::VcpuTsc::tsc_deadline_ticks, vcpus));
  return status;
}

absl::StatusOr<time::TscState> DecodePayload(const v1::TscStatePayload& payload) {
  absl::Status status = CheckNoUnknownFields(payload, "payload");
  status.Update(CheckId("vm_id", payload.vm_id()));
  status.Update(CheckRange("guest_tsc_khz", payload.guest_tsc_khz(), 1,
                           std::numeric_limits<uint32_t>::max()));
  if (!payload.boot_id().empty() && payload.boot_id().size() != kBootIdBytes) {
    status.Update(Corrupt("boot_id", absl::StrCat("has ", payload.boot_id().size(),
                                                  " bytes, not 0 or ", kBootIdBytes)));
  }
  if (!status.ok()) return status;
  time::TscState state;
  state.vm_id = payload.vm_id();
  state.guest_khz = payload.guest_tsc_khz();
  state.boot_id = payload.boot_id();
  if (payload.has_reference()) {
    absl::StatusOr<time::TimeReference> reference = DecodeReference(payload.reference());
    if (!reference.ok()) return reference.status();
    state.reference = *reference;
  }
  if (payload.has_kvmclock()) {
    absl::StatusOr<time::KvmClockValue> kvmclock = DecodeKvmClock(payload.kvmclock());
    if (!kvmclock.ok()) return kvmclock.status();
    state.kvmclock = *kvmclock;
  }
  if (payload.has_handoff()) {
    absl::StatusOr<time::HandoffTicket> ticket = FromProto(payload.handoff());
    if (!ticket.ok()) return ticket.status();
    state.handoff = *std::move(ticket);
  }
  if (status = DecodeVcpus(payload, state.vcpus); !status.ok()) return status;
  return state;
}

}  // namespace

v1::TimeReference ToProto(const time::TimeReference& reference) {
  v1::TimeReference proto;
  proto.set_host_tsc_ticks(reference.host_tsc_ticks);
  proto.set_realtime_ns(static_cast<uint64_t>(reference.realtime_ns));
  proto.set_tai_offset_s(static_cast<uint32_t>(reference.tai_offset_s));
  proto.set_read_error_ns(static_cast<uint64_t>(reference.read_error_ns));
  proto.set_clock_error_ns(static_cast<uint64_t>(reference.clock_error_ns));
  proto.set_clock_trusted(reference.clock_trusted);
  proto.set_leap_second(reference.leap_second);
  proto.set_host_tsc_khz(reference.host_tsc_khz);
  proto.set_method(reference.method == time::ReferenceMethod::kKvmGetClock
                       ? v1::TimeReference::METHOD_KVM_GET_CLOCK
                       : v1::TimeReference::METHOD_BRACKETED);
  return proto;
}

v1::HandoffTicket ToProto(const time::HandoffTicket& ticket) {
  v1::HandoffTicket proto;
  proto.set_handoff_id(ticket.handoff_id);
  proto.set_epoch(ticket.epoch);
  proto.set_source_agent_id(ticket.source_agent_id);
  proto.set_destination_agent_id(ticket.destination_agent_id);
  proto.set_destination_vm_id(ticket.destination_vm_id);
  proto.set_release_digest(ticket.release_digest);
  proto.set_abort_digest(ticket.abort_digest);
  return proto;
}

absl::StatusOr<time::HandoffTicket> FromProto(const v1::HandoffTicket& proto) {
  absl::Status status = CheckNoUnknownFields(proto, "handoff");
  status.Update(CheckId("handoff.handoff_id", proto.handoff_id()));
  status.Update(CheckRange("handoff.epoch", proto.epoch(), 1, std::numeric_limits<int64_t>::max()));
  status.Update(CheckBytes("handoff.source_agent_id", proto.source_agent_id(), kAgentIdBytes));
  status.Update(
      CheckBytes("handoff.destination_agent_id", proto.destination_agent_id(), kAgentIdBytes));
  status.Update(CheckId("handoff.destination_vm_id", proto.destination_vm_id()));
  status.Update(CheckBytes("handoff.release_digest", proto.release_digest(), kDigestBytes));
  status.Update(CheckBytes("handoff.abort_digest", proto.abort_digest(), kDigestBytes));
  if (!status.ok()) return status;
  return time::HandoffTicket{proto.handoff_id(),        proto.epoch(),
                             proto.source_agent_id(),   proto.destination_agent_id(),
                             proto.destination_vm_id(), proto.release_digest(),
                             proto.abort_digest()};
}

v1::TscState Encode(const time::TscState& state) {
  v1::TscStatePayload payload;
  payload.set_vm_id(state.vm_id);
  if (state.reference.has_value()) *payload.mutable_reference() = ToProto(*state.reference);
  payload.set_guest_tsc_khz(state.guest_khz);
  payload.set_vcpu_count(static_cast<uint32_t>(state.vcpus.size()));
  if (!state.vcpus.empty()) {
    EncodeIds(state.vcpus, payload);
    EncodeColumn(state.vcpus, &time::VcpuTsc::guest_tsc_ticks, /*zero_is_empty=*/false,
                 *payload.mutable_guest_tsc_ticks());
    EncodeColumn(state.vcpus, &time::VcpuTsc::tsc_adjust_ticks, /*zero_is_empty=*/true,
                 *payload.mutable_tsc_adjust_ticks());
    EncodeColumn(state.vcpus, &time::VcpuTsc::tsc_deadline_ticks, /*zero_is_empty=*/true,
                 *payload.mutable_tsc_deadline_ticks());
  }
  if (state.kvmclock.has_value()) {
    payload.mutable_kvmclock()->set_kvmclock_ns(state.kvmclock->kvmclock_ns);
    payload.mutable_kvmclock()->set_read_error_ns(
        static_cast<uint64_t>(state.kvmclock->read_error_ns));
    payload.mutable_kvmclock()->set_master_clock(state.kvmclock->master_clock);
  }
  payload.set_boot_id(state.boot_id);
  if (state.handoff.has_value()) *payload.mutable_handoff() = ToProto(*state.handoff);
  v1::TscState sealed;
  sealed.set_format_version(kFormatVersion);
  payload.SerializeToString(sealed.mutable_payload());
  sealed.set_crc32(Checksum(kFormatVersion, sealed.payload()));
  return sealed;
}

absl::StatusOr<time::TscState> Decode(const v1::TscState& sealed) {
  if (sealed.format_version() != kFormatVersion) return UnknownVersion(sealed.format_version());
  if (absl::Status status = CheckNoUnknownFields(sealed, "envelope"); !status.ok()) return status;
  if (sealed.payload().empty()) return Corrupt("payload", "is empty");
  if (sealed.payload().size() > kMaxPayloadBytes) {
    return Corrupt("payload", absl::StrCat("has ", sealed.payload().size(), " bytes, the limit is ",
                                           kMaxPayloadBytes));
  }
  if (const uint32_t sum = Checksum(sealed.format_version(), sealed.payload());
      sum != sealed.crc32()) {
    return Corrupt("crc32", absl::StrCat("is ", absl::Hex(sealed.crc32(), absl::kZeroPad8),
                                         ", the payload's is ", absl::Hex(sum, absl::kZeroPad8)));
  }
  v1::TscStatePayload payload;
  if (!payload.ParseFromString(sealed.payload()))
    return Corrupt("payload", "is not a TscStatePayload message");
  return DecodePayload(payload);
}

}  // namespace tsc_handoff::state
