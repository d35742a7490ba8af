#include "tests/contract/port_access.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/unique_fd.h"
#include "server/port/fault.h"

namespace tsc_handoff::contract {
namespace {

constexpr char kVmId[] = "contract";
constexpr int kWaitMs = 20'000;

uint64_t NumberIn(const Metadata& metadata, const std::string& key) {
  auto found = metadata.find(key);
  uint64_t value = 0;
  if (found == metadata.end() || !absl::SimpleAtoi(found->second, &value)) return UINT32_MAX;
  return value;
}

uint32_t OutcomeOf(Reason reason) {
  switch (reason) {
    case Reason::kVmRunning:
      return TSC_KVM_BLOCKED;
    case Reason::kVcpuSetMismatch:
      return TSC_KVM_MISMATCH;
    case Reason::kTscProtected:
    case Reason::kTscAdjustUnsupported:
      return TSC_KVM_NOT_KEPT;
    case Reason::kRollbackFailed:
      return TSC_KVM_ROLLBACK_FAILED;
    case Reason::kKvmIoctlFailed:
      return TSC_KVM_FAILED;
    default:
      return UINT32_MAX;
  }
}

// The status back into the fault that it was made from, as far as a status tells: of the steps that
// share an ioctl it names the ioctl only, and the first of them is taken.
tsc_kvm_fault FaultOf(const absl::Status& status) {
  tsc_kvm_fault fault = {};
  if (status.ok()) return fault;
  std::optional<Reason> reason = ReasonOf(status);
  fault.outcome = reason ? OutcomeOf(*reason) : UINT32_MAX;
  Metadata metadata = MetadataOf(status);
  fault.vcpu_id = static_cast<uint32_t>(NumberIn(metadata, "vcpu_id"));
  if (metadata.contains("errno")) fault.error = static_cast<int32_t>(NumberIn(metadata, "errno"));
  if (reason == Reason::kTscProtected) fault.step = TSC_STEP_VERIFY_OFFSET;
  if (reason == Reason::kTscAdjustUnsupported) fault.step = TSC_STEP_VERIFY_MSRS;
  if (fault.step != TSC_STEP_NONE || !metadata.contains("ioctl")) return fault;
  for (uint32_t step = TSC_STEP_READ_OFFSET; step <= TSC_STEP_VERIFY_KVMCLOCK; ++step) {
    if (metadata["ioctl"] == port::IoctlOfStep(step)) {
      fault.step = step;
      break;
    }
  }
  return fault;
}

// Receives one message of the registration; the descriptors that come with it are closed by not
// taking them.
absl::StatusOr<std::vector<unsigned char>> ReceiveMessage(int socket, uint16_t type) {
  std::vector<unsigned char> bytes(sizeof(tsc_wire_vcpus));
  const ssize_t length = recv(socket, bytes.data(), bytes.size(), 0);
  if (length < static_cast<ssize_t>(sizeof(tsc_wire_header))) {
    return absl::InternalError(absl::StrCat("the session did not register: ", strerror(errno)));
  }
  bytes.resize(static_cast<size_t>(length));
  tsc_wire_header header;
  memcpy(&header, bytes.data(), sizeof(header));
  if (header.type != type) return absl::InternalError("not a registration");
  return bytes;
}

// Plays the agent's part of the registration, up to WELCOME.
absl::StatusOr<tsc_wire_hello> Welcome(int socket, uint32_t vcpu_count) {
  const auto first = ReceiveMessage(socket, TSC_WIRE_HELLO);
  if (!first.ok()) return first.status();
  tsc_wire_hello hello;
  if (first->size() != sizeof(hello)) return absl::InternalError("no HELLO");
  memcpy(&hello, first->data(), sizeof(hello));
  for (uint32_t seen = 0; seen < vcpu_count; seen += TSC_WIRE_FDS_PER_MESSAGE) {
    if (const auto vcpus = ReceiveMessage(socket, TSC_WIRE_VCPUS); !vcpus.ok())
      return vcpus.status();
  }
  tsc_wire_header welcome = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_WELCOME, 0};
  if (send(socket, &welcome, sizeof(welcome), MSG_NOSIGNAL) != sizeof(welcome)) {
    return absl::InternalError(absl::StrCat("send: ", strerror(errno)));
  }
  return hello;
}

}  // namespace

absl::StatusOr<std::unique_ptr<VmmSession>> VmmSession::Open(ContractVm& vm,
                                                             const VmmOptions& options) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::InternalError(absl::StrCat("socketpair: ", strerror(errno)));
  }
  UniqueFd agent_end(ends[0]);
  tsc_kvm_vm handles = vm.vm();
  tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  config.vm_id = kVmId;
  config.vm_fd = handles.vm_fd;
  config.vcpus = handles.vcpus;
  config.vcpu_count = handles.vcpu_count;
  config.ops = vm.interposer().ops();
  config.awaits_handoff = options.awaits_handoff ? 1 : 0;
  std::unique_ptr<VmmSession> out(new VmmSession());
  char why[TSC_VMM_ERROR_SIZE] = "";
  if (tsc_vmm_open_socket(&config, ends[1], &out->session_, why) != 0)
    return absl::InternalError(why);
  auto hello = Welcome(agent_end.get(), handles.vcpu_count);
  if (!hello.ok()) return hello.status();
  out->hello_ = *hello;
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < handles.vcpu_count; ++i) ids.push_back(handles.vcpus[i].id);
  out->port_ = std::make_unique<port::CooperativePort>(kVmId, std::move(ids), std::move(agent_end));
  if (!options.first_permit) return out;
  out->Grant();
  if (tsc_vmm_wait_registered(out->session_, kWaitMs, why) != 0) return absl::InternalError(why);
  return out;
}

VmmSession::~VmmSession() {
  if (session_ != nullptr) tsc_vmm_close(session_);
}

CaptureResult VmmSession::Capture(port::Hold hold) {
  CaptureResult out;
  absl::StatusOr<port::Capture> capture = port_->ReadAll(hold);
  out.fault = FaultOf(capture.status());
  if (capture.ok()) {
    out.vcpus = std::move(capture->vcpus);
    out.kvmclock = capture->kvmclock;
  }
  return out;
}

ApplyResult VmmSession::Apply(const tsc_kvm_target& target,
                              const std::vector<tsc_vcpu_state>& wanted, port::Hold hold) {
  ApplyResult out;
  absl::StatusOr<port::Applied> applied = port_->WriteAll({target, wanted}, hold);
  out.fault = FaultOf(applied.status());
  if (applied.ok()) {
    out.before = std::move(applied->before);
    out.after = std::move(applied->after);
    out.kvmclock = applied->kvmclock;
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Access>> CooperativeAccess(ContractVm& vm) {
  return VmmSession::Open(vm, {});
}

}  // namespace tsc_handoff::contract
