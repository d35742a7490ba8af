// The VMM library's end of its connection: whatever an agent sends, the session goes on or ends,
// and never grants a permit that the agent has not.
#include <sys/socket.h>

#include <cstring>

#include "client/vmm/tsc_vmm.h"
#include "client/vmm/tsc_wire.h"
#include "tests/fuzz/packets.h"
#include "tests/fuzz/target.h"
#include "tests/sim/sim_host.h"

namespace tsc_handoff::fuzz {
namespace {

constexpr size_t kMostPackets = 8;
constexpr int kPatienceMs = 10'000;

bool GrantsAPermit(const std::vector<Packet>& packets) {
  for (const Packet& packet : packets) {
    tsc_wire_permit permit = {};
    if (packet.bytes.size() < sizeof(permit)) continue;
    std::memcpy(&permit, packet.bytes.data(), sizeof(permit));
    if (permit.header.type == TSC_WIRE_PERMIT && permit.granted != 0) return true;
  }
  return false;
}

template <typename T>
std::string Raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

tsc_wire_header Header(tsc_wire_type type, uint64_t id) {
  return {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, static_cast<uint16_t>(type), id};
}

}  // namespace

std::vector<std::string> Seeds() {
  const tsc_wire_header welcome = Header(TSC_WIRE_WELCOME, 0);
  tsc_wire_permit permit = {};
  permit.header = Header(TSC_WIRE_PERMIT, 0);
  permit.granted = 1;
  tsc_wire_permit denied = permit;
  denied.granted = 0;
  std::strcpy(denied.text, "it was handed over");  // NOLINT: it has room
  tsc_wire_request read = {};
  read.header = Header(TSC_WIRE_READ, 1);
  read.deadline_ns = ~uint64_t{0} >> 1;
  tsc_wire_request status = read;
  status.header = Header(TSC_WIRE_STATUS, 2);
  tsc_wire_write write = {};
  write.header = Header(TSC_WIRE_WRITE, 3);
  write.deadline_ns = read.deadline_ns;
  write.flags = TSC_WIRE_HOLD;
  write.target.vcpu_count = 2;
  tsc_vcpu_state vcpus[2] = {};
  vcpus[0].tsc_khz = vcpus[1].tsc_khz = 2'600'000;
  vcpus[1].vcpu_id = 1;
  tsc_wire_refused refused = {};
  refused.header = Header(TSC_WIRE_REFUSED, 0);
  std::strcpy(refused.text, "the vm_id is taken");  // NOLINT: it has room
  const auto packets = [](const std::vector<std::string>& texts) {
    std::vector<Packet> out;
    for (const std::string& text : texts) out.push_back({text, 0});
    return WritePackets(out);
  };
  return {packets({Raw(welcome), Raw(permit), Raw(read), Raw(status), Raw(write) + Raw(vcpus)}),
          packets({Raw(welcome), Raw(denied), Raw(write) + Raw(vcpus)}), packets({Raw(refused)}),
          packets({Raw(permit), Raw(welcome)}),
          packets({Raw(welcome), Raw(permit), Raw(denied), Raw(read)})};
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  static sim::SimHost host(std::make_shared<sim::SimTime>(),
                           {.real_fds = true, .record_calls = false});
  static const sim::SimVm vm = host.CreateVm({.vcpu_ids = {0, 1}});
  const std::vector<Packet> packets = ReadPackets(data, size, kMostPackets);
  Pair pair;
  tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  config.vm_id = "vm1";
  config.vm_fd = vm.vm_fd;
  config.vcpus = vm.vcpus.data();
  config.vcpu_count = static_cast<uint32_t>(vm.vcpus.size());
  config.ops = host.OpsFor(0);
  config.awaits_handoff = 1;
  tsc_vmm* session = nullptr;
  char error[TSC_VMM_ERROR_SIZE];
  const int raw = dup(pair.other.get());
  FUZZ_CHECK(tsc_vmm_open_socket(&config, raw, &session, error) == 0);
  pair.other = UniqueFd();
  for (const Packet& packet : packets) {
    if (!Send(pair.mine.get(), packet)) break;
  }
  shutdown(pair.mine.get(), SHUT_WR);
  AwaitEnd(pair.mine.get());
  (void)tsc_vmm_wait_registered(session, kPatienceMs, error);
  if (tsc_vmm_may_run(session, error) != 0) FUZZ_CHECK(GrantsAPermit(packets));
  tsc_vmm_close(session);
  return 0;
}
