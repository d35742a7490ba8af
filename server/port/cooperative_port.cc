#include "server/port/cooperative_port.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/vmm/tsc_wire.h"
#include "server/base/error.h"
#include "server/base/failpoint.h"
#include "server/port/fault.h"

namespace tsc_handoff::port {
namespace {

using SteadyClock = std::chrono::steady_clock;

// The VMM's connection thread answers STATUS at once.
constexpr absl::Duration kStatusTimeout = absl::ZeroDuration();

template <typename T>
T Parse(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

template <typename T>
std::vector<std::byte> Message(uint16_t type, T body, size_t tail_size = 0) {
  body.header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, type, 0};
  std::vector<std::byte> bytes(sizeof(body) + tail_size);
  std::memcpy(bytes.data(), &body, sizeof(body));
  return bytes;
}

// On CLOCK_MONOTONIC, which the VMM reads too.
uint64_t DeadlineNs() {
  const auto deadline = SteadyClock::now() + absl::ToChronoNanoseconds(kPortTimeout);
  return static_cast<uint64_t>(std::chrono::nanoseconds(deadline.time_since_epoch()).count());
}

uint32_t Flags(Hold hold) { return hold == Hold::kYes ? uint32_t{TSC_WIRE_HOLD} : 0; }

}  // namespace

CooperativePort::CooperativePort(std::string vm_id, std::vector<uint32_t> vcpu_ids, UniqueFd socket)
    : vm_id_(std::move(vm_id)), vcpu_ids_(std::move(vcpu_ids)), socket_(std::move(socket)) {}

absl::StatusOr<Capture> CooperativePort::ReadAll(Hold hold) {
  tsc_wire_request request = {};
  request.deadline_ns = DeadlineNs();
  request.flags = Flags(hold);
  auto answer = Call(Message(TSC_WIRE_READ, request), TSC_WIRE_READ_DONE,
                     sizeof(tsc_wire_read_done), kPortTimeout);
  if (!answer.ok()) return answer.status();
  const auto done = Parse<tsc_wire_read_done>(answer->data());
  if (done.fault.outcome > TSC_KVM_BLOCKED) return BrokenProtocol("an unknown outcome");
  if (done.fault.outcome != TSC_KVM_OK) return FaultToStatus(vm_id_, done.fault);
  if (done.vcpu_count != vcpu_ids_.size() ||
      answer->size() != sizeof(done) + vcpu_ids_.size() * sizeof(tsc_vcpu_state)) {
    return BrokenProtocol("a READ_DONE of the wrong size");
  }
  auto vcpus = States(answer->data() + sizeof(done));
  if (!vcpus.ok()) return vcpus.status();
  return Capture{*std::move(vcpus), done.kvmclock};
}

absl::StatusOr<Applied> CooperativePort::WriteAll(const ApplyOrder& order, Hold hold) {
  tsc_wire_write body = {};
  body.deadline_ns = DeadlineNs();
  body.flags = Flags(hold);
  body.target = order.target;
  body.target.vcpu_count = static_cast<uint32_t>(order.vcpus.size());
  const size_t tail_size = order.vcpus.size() * sizeof(tsc_vcpu_state);
  std::vector<std::byte> request = Message(TSC_WIRE_WRITE, body, tail_size);
  if (tail_size > 0) std::memcpy(request.data() + sizeof(body), order.vcpus.data(), tail_size);
  auto answer =
      Call(std::move(request), TSC_WIRE_WRITE_DONE, sizeof(tsc_wire_write_done), kPortTimeout);
  if (!answer.ok()) return answer.status();
  const auto done = Parse<tsc_wire_write_done>(answer->data());
  if (done.fault.outcome > TSC_KVM_BLOCKED) return BrokenProtocol("an unknown outcome");
  if (done.fault.outcome != TSC_KVM_OK) return FaultToStatus(vm_id_, done.fault);
  if (done.vcpu_count != vcpu_ids_.size() ||
      answer->size() != sizeof(done) + 2 * vcpu_ids_.size() * sizeof(tsc_vcpu_state)) {
    return BrokenProtocol("a WRITE_DONE of the wrong size");
  }
  auto before = States(answer->data() + sizeof(done));
  if (!before.ok()) return before.status();
  auto after = States(answer->data() + sizeof(done) + vcpu_ids_.size() * sizeof(tsc_vcpu_state));
  if (!after.ok()) return after.status();
  return Applied{*std::move(before), *std::move(after), done.kvmclock};
}

absl::StatusOr<bool> CooperativePort::IsPaused() {
  auto answer = Call(Message(TSC_WIRE_STATUS, tsc_wire_request{}), TSC_WIRE_STATUS_DONE,
                     sizeof(tsc_wire_status_done), kStatusTimeout);
  if (!answer.ok()) return answer.status();
  return Parse<tsc_wire_status_done>(answer->data()).running == 0;
}

void CooperativePort::SendPermit(const Permit& permit) {
  tsc_wire_permit message = {};
  message.header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_PERMIT, 0};
  message.granted = permit.granted ? 1 : 0;
  message.epoch = permit.epoch;
  std::memcpy(message.text, permit.reason.data(),
              std::min(permit.reason.size(), sizeof(message.text) - 1));
  Failpoint("port.permit.sending");
  // A VMM that missed a word must not go on with the one before it; it registers anew.
  if (!Send(&message, sizeof(message))) shutdown(socket_.get(), SHUT_RDWR);
  Failpoint("port.permit.sent");
}

bool CooperativePort::Send(const void* bytes, size_t size) const {
  ssize_t sent;
  do {
    sent = send(socket_.get(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(size);
}

absl::StatusOr<std::vector<std::byte>> CooperativePort::Call(std::vector<std::byte> request,
                                                             uint16_t type, size_t min_size,
                                                             absl::Duration timeout) {
  const uint64_t id = next_request_id_++;
  std::memcpy(request.data() + offsetof(tsc_wire_header, request_id), &id, sizeof(id));
  Failpoint("port.request.sending");
  if (!Send(request.data(), request.size())) {
    const bool full = errno == EAGAIN || errno == EWOULDBLOCK;
    return Error(Reason::kVmmGone,
                 absl::StrCat("the VMM of VM ", vm_id_,
                              full ? " does not read its socket: it hangs" : " has gone"),
                 {{"vm_id", vm_id_}});
  }
  Failpoint("port.request.sent");
  auto answer = AwaitAnswer(type, min_size, timeout + kPortGrace);
  Failpoint("port.request.answered");
  return answer;
}

absl::StatusOr<std::vector<std::byte>> CooperativePort::AwaitAnswer(uint16_t type, size_t min_size,
                                                                    absl::Duration timeout) {
  const uint64_t id = next_request_id_ - 1;
  const auto deadline = SteadyClock::now() + absl::ToChronoMilliseconds(timeout);
  std::vector<std::byte> answer(TSC_WIRE_MAX_ANSWER(vcpu_ids_.size()));
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now());
    pollfd readable = {socket_.get(), POLLIN, 0};
    const int ready = left.count() > 0 ? poll(&readable, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      return Error(Reason::kVmmGone,
                   absl::StrCat("the VMM of VM ", vm_id_, " has not answered for ",
                                absl::FormatDuration(timeout), ": it hangs or is stopped"),
                   {{"vm_id", vm_id_}});
    }
    const ssize_t length =
        recv(socket_.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length <= 0) {
      return Error(Reason::kVmmGone,
                   absl::StrCat("the VMM of VM ", vm_id_, " has closed its connection"),
                   {{"vm_id", vm_id_}});
    }
    if (static_cast<size_t>(length) < sizeof(tsc_wire_header) ||
        static_cast<size_t>(length) > answer.size()) {
      return BrokenProtocol("a message of impossible length");
    }
    const auto header = Parse<tsc_wire_header>(answer.data());
    if (header.magic != TSC_WIRE_MAGIC || header.version != TSC_WIRE_VERSION)
      return BrokenProtocol("no message");
    if (header.request_id < id) continue;  // the answer to a request that was given up
    if (header.request_id != id || header.type != type || static_cast<size_t>(length) < min_size) {
      return BrokenProtocol("an answer to another request");
    }
    answer.resize(static_cast<size_t>(length));
    return answer;
  }
}

absl::StatusOr<std::vector<tsc_vcpu_state>> CooperativePort::States(const std::byte* bytes) {
  std::vector<tsc_vcpu_state> states(vcpu_ids_.size());
  std::memcpy(states.data(), bytes, states.size() * sizeof(tsc_vcpu_state));
  for (size_t i = 0; i < states.size(); ++i) {
    if (states[i].vcpu_id != vcpu_ids_[i]) return BrokenProtocol("the state of another vCPU");
  }
  return states;
}

absl::Status CooperativePort::BrokenProtocol(const std::string& what) {
  shutdown(socket_.get(), SHUT_RDWR);  // whoever watches the connection forgets the VM
  return Error(Reason::kVmmGone,
               absl::StrCat("the VMM of VM ", vm_id_, " sent ", what, "; its connection was ended"),
               {{"vm_id", vm_id_}});
}

}  // namespace tsc_handoff::port
