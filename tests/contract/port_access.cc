#include "tests/contract/port_access.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/vmm/tsc_vmm.h"
#include "client/vmm/tsc_wire.h"
#include "server/base/error.h"
#include "server/base/unique_fd.h"
#include "server/port/cooperative_port.h"
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

class Cooperative final : public Access {
 public:
  Cooperative(tsc_vmm* session, std::unique_ptr<port::CooperativePort> port)
      : session_(session), port_(std::move(port)) {}
  ~Cooperative() override { tsc_vmm_close(session_); }

  CaptureResult Capture() override {
    CaptureResult out;
    absl::StatusOr<port::Capture> capture = port_->ReadAll();
    out.fault = FaultOf(capture.status());
    if (capture.ok()) {
      out.vcpus = std::move(capture->vcpus);
      out.kvmclock = capture->kvmclock;
    }
    return out;
  }

  ApplyResult Apply(const tsc_kvm_target& target,
                    const std::vector<tsc_vcpu_state>& wanted) override {
    ApplyResult out;
    absl::StatusOr<port::Applied> applied = port_->WriteAll({target, wanted});
    out.fault = FaultOf(applied.status());
    if (applied.ok()) {
      out.before = std::move(applied->before);
      out.after = std::move(applied->after);
      out.kvmclock = applied->kvmclock;
    }
    return out;
  }

 private:
  tsc_vmm* const session_;
  const std::unique_ptr<port::CooperativePort> port_;
};

// Receives one message of the registration; the descriptors that come with it are closed by not
// taking them.
absl::StatusOr<uint16_t> ReceiveType(int socket) {
  alignas(8) unsigned char bytes[sizeof(tsc_wire_vcpus)];
  ssize_t length = recv(socket, bytes, sizeof(bytes), 0);
  if (length < static_cast<ssize_t>(sizeof(tsc_wire_header))) {
    return absl::InternalError(absl::StrCat("the session did not register: ", strerror(errno)));
  }
  tsc_wire_header header;
  memcpy(&header, bytes, sizeof(header));
  return header.type;
}

// Plays the agent's part of the registration.
absl::Status Welcome(int socket, uint32_t vcpu_count) {
  uint32_t messages = 1 + (vcpu_count + TSC_WIRE_FDS_PER_MESSAGE - 1) / TSC_WIRE_FDS_PER_MESSAGE;
  for (uint32_t i = 0; i < messages; ++i) {
    absl::StatusOr<uint16_t> type = ReceiveType(socket);
    if (!type.ok()) return type.status();
    if (*type != (i == 0 ? TSC_WIRE_HELLO : TSC_WIRE_VCPUS))
      return absl::InternalError("not a registration");
  }
  tsc_wire_header welcome = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_WELCOME, 0};
  if (send(socket, &welcome, sizeof(welcome), MSG_NOSIGNAL) != sizeof(welcome)) {
    return absl::InternalError(absl::StrCat("send: ", strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Access>> CooperativeAccess(ContractVm& vm) {
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
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE] = "";
  if (tsc_vmm_open_socket(&config, ends[1], &session, why) != 0) return absl::InternalError(why);
  absl::Status welcomed = Welcome(agent_end.get(), handles.vcpu_count);
  if (welcomed.ok() && tsc_vmm_wait_registered(session, kWaitMs, why) != 0)
    welcomed = absl::InternalError(why);
  if (!welcomed.ok()) {
    tsc_vmm_close(session);
    return welcomed;
  }
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < handles.vcpu_count; ++i) ids.push_back(handles.vcpus[i].id);
  return std::make_unique<Cooperative>(session, std::make_unique<port::CooperativePort>(
                                                    kVmId, std::move(ids), std::move(agent_end)));
}

}  // namespace tsc_handoff::contract
