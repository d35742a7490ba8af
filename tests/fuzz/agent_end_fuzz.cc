// The agent's end of the connection with a VMM: registration, then answers to a read, a write and a
// question. A VMM that says anything whatever is refused or disconnected, or what it said is what
// the agent goes by: vCPUs that are the VM's, as many as they are.
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "client/vmm/tsc_wire.h"
#include "server/port/cooperative_port.h"
#include "server/port/vmm_listener.h"
#include "server/registry/vm_registry.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/packets.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

enum Kind : uint8_t { kRegistration = 0, kAnswers = 1, kKinds = 2 };
constexpr size_t kMostPackets = 8;
const std::vector<uint32_t> kIds = {0, 1, 5};

class AnyDescriptors final : public port::DescriptorCheck {
 public:
  absl::Status Check(const UniqueFd& /*vm*/, const std::vector<uint32_t>& ids,
                     const std::vector<UniqueFd>& vcpus) override {
    FUZZ_CHECK(!ids.empty() && ids.size() <= TSC_KVM_MAX_VCPUS && ids.size() == vcpus.size());
    for (size_t i = 1; i < ids.size(); ++i) FUZZ_CHECK(ids[i - 1] < ids[i]);
    FUZZ_CHECK(ids.back() <= TSC_KVM_MAX_VCPU_ID);
    return absl::OkStatus();
  }
};

void TryRegistration(const std::vector<Packet>& packets) {
  static registry::VmRegistry registry(4);
  static AnyDescriptors check;
  static port::VmmListener* const listener = [] {
    auto* made = new port::VmmListener({}, registry, check);
    FUZZ_CHECK(made->Start().ok());
    return made;
  }();
  Pair pair;
  listener->Adopt(std::move(pair.other));
  for (const Packet& packet : packets) {
    if (!Send(pair.mine.get(), packet)) break;
  }
  shutdown(pair.mine.get(), SHUT_WR);
  AwaitEnd(pair.mine.get());
}

// Answers the agent's requests one by one, with the number that each request has where the input
// does not insist on another one.
void Play(int socket, const std::vector<Packet>& packets) {
  char buffer[4096];
  for (const Packet& packet : packets) {
    const ssize_t got = recv(socket, buffer, sizeof(buffer), 0);
    if (got < static_cast<ssize_t>(sizeof(tsc_wire_header))) return;
    Packet answer = packet;
    constexpr size_t kAt = offsetof(tsc_wire_header, request_id);
    uint64_t id = 0;
    if (answer.bytes.size() >= kAt + sizeof(id)) {
      std::memcpy(&id, answer.bytes.data() + kAt, sizeof(id));
      if (id == 0) std::memcpy(answer.bytes.data() + kAt, buffer + kAt, sizeof(id));
    }
    if (!Send(socket, answer)) return;
  }
}

void TryAnswers(const std::vector<Packet>& packets) {
  Pair pair;
  port::CooperativePort port("vm1", kIds, std::move(pair.other));
  std::thread vmm([&] {
    Play(pair.mine.get(), packets);
    shutdown(pair.mine.get(), SHUT_RDWR);
  });
  const auto is_the_vms = [](const std::vector<tsc_vcpu_state>& vcpus) {
    FUZZ_CHECK(vcpus.size() == kIds.size());
    for (size_t i = 0; i < kIds.size(); ++i) FUZZ_CHECK(vcpus[i].vcpu_id == kIds[i]);
  };
  port::ApplyOrder order;
  for (int i = 0; i < 3; ++i) {
    const auto capture = port.ReadAll(port::Hold::kNo);
    if (capture.ok()) {
      is_the_vms(capture->vcpus);
      order.vcpus = capture->vcpus;
    }
    if (order.vcpus.empty()) break;
    const auto applied = port.WriteAll(order, port::Hold::kYes);
    if (applied.ok()) {
      is_the_vms(applied->before);
      is_the_vms(applied->after);
    }
    (void)port.IsPaused();
  }
  shutdown(port.socket(), SHUT_RDWR);
  vmm.join();
}

template <typename T>
std::string Raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

tsc_wire_header Header(tsc_wire_type type) {
  return {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, static_cast<uint16_t>(type), 0};
}

std::string Input(Kind kind, const std::vector<Packet>& packets) {
  return std::string(1, static_cast<char>(kind)) + WritePackets(packets);
}

std::string Vcpus() {
  std::string out;
  for (const uint32_t id : kIds) {
    tsc_vcpu_state vcpu = {};
    vcpu.vcpu_id = id;
    vcpu.tsc_khz = 2'600'000;
    vcpu.tsc_offset_ticks = uint64_t{0} - 1000;
    out += Raw(vcpu);
  }
  return out;
}

}  // namespace

std::vector<std::string> Seeds() {
  tsc_wire_hello hello = {};
  hello.header = Header(TSC_WIRE_HELLO);
  hello.vcpu_count = static_cast<uint32_t>(kIds.size());
  std::strcpy(hello.vm_id, "vm1");  // NOLINT: it has room
  hello.instance[0] = 1;
  tsc_wire_vcpus vcpus = {};
  vcpus.header = Header(TSC_WIRE_VCPUS);
  vcpus.count = hello.vcpu_count;
  std::copy(kIds.begin(), kIds.end(), vcpus.ids);
  const Packet first = {Raw(hello), 1};
  const Packet second = {
      Raw(vcpus).substr(0, offsetof(tsc_wire_vcpus, ids) + kIds.size() * sizeof(uint32_t)), 3};
  const Packet whole = {Raw(vcpus), 3};
  tsc_wire_read_done read = {};
  read.header = Header(TSC_WIRE_READ_DONE);
  read.vcpu_count = hello.vcpu_count;
  tsc_wire_write_done write = {};
  write.header = Header(TSC_WIRE_WRITE_DONE);
  write.vcpu_count = hello.vcpu_count;
  tsc_wire_status_done status = {};
  status.header = Header(TSC_WIRE_STATUS_DONE);
  tsc_wire_read_done failed = {};
  failed.header = Header(TSC_WIRE_READ_DONE);
  failed.fault.outcome = TSC_KVM_FAILED;
  failed.fault.step = TSC_STEP_READ_OFFSET;
  failed.fault.error = 5;
  const Packet good_read = {Raw(read) + Vcpus(), 0};
  const Packet good_write = {Raw(write) + Vcpus() + Vcpus(), 0};
  const Packet good_status = {Raw(status), 0};
  return {Input(kRegistration, {first, second}),
          Input(kRegistration, {first, whole}),
          Input(kRegistration, {first, second, good_read}),
          Input(kRegistration, {second, first}),
          Input(kAnswers, {good_read, good_write, good_status, good_read, good_write}),
          Input(kAnswers, {{Raw(failed), 0}, good_read, good_status}),
          Input(kAnswers, {good_read, {Raw(failed), 0}})};
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff::fuzz;  // NOLINT: a target is one function
  if (size == 0) return 0;
  const std::vector<Packet> packets = ReadPackets(data + 1, size - 1, kMostPackets);
  if (data[0] % kKinds == kRegistration) {
    TryRegistration(packets);
  } else {
    TryAnswers(packets);
  }
  return 0;
}
