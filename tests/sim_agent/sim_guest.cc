#include "tests/sim_agent/sim_guest.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::sim {
namespace {

uint64_t EntryOrZero(const std::vector<uint64_t>& values, size_t i) {
  return i < values.size() ? values[i] : 0;
}

}  // namespace

std::vector<uint32_t> DenseIds(uint32_t count) {
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0u);
  return ids;
}

SimGuest::SimGuest(SimHost& host, const SimGuestOptions& options)
    : host_(host),
      vm_id_(options.vm_id),
      process_(options.process),
      awaits_handoff_(options.awaits_handoff),
      vm_(host.CreateVm(
          {.process = options.process, .vcpu_ids = options.vcpu_ids, .vcpu = options.vcpu})) {}

SimGuest::~SimGuest() {
  Disconnect();
  host_.DestroyVm(vm_);
}

absl::StatusOr<std::unique_ptr<SimGuest>> SimGuest::Make(SimHost& host,
                                                         const SimGuestOptions& options) {
  std::unique_ptr<SimGuest> guest(new SimGuest(host, options));
  if (absl::Status status = guest->SetUp(options); !status.ok()) return status;
  return guest;
}

absl::Status SimGuest::SetUp(const SimGuestOptions& options) {
  const tsc_kvm_vm view = vm_.view();
  const tsc_kvm_ops* ops = host_.OpsFor(process_);
  for (const tsc_kvm_vcpu& vcpu : vm_.vcpus) {
    if (options.guest_khz == 0) break;
    const int result = ops->ioctl(ops->ctx, vcpu.fd, KVM_SET_TSC_KHZ,
                                  reinterpret_cast<void*>(uintptr_t{options.guest_khz}));
    if (result != 0)
      return absl::FailedPreconditionError(absl::StrCat("KVM_SET_TSC_KHZ: ", strerror(-result)));
  }
  auto states = Read();
  if (!states.ok()) return states.status();
  if (host_.traits().tsc_protected) return absl::OkStatus();
  // One shift for all vCPUs, so that what differs is the phase asked for and nothing else.
  const uint64_t base = states->front().tsc_offset_ticks + options.start_tsc_ticks -
                        host_.GuestTsc(vm_.vcpus.front().fd);
  for (size_t i = 0; i < states->size(); ++i) {
    (*states)[i].tsc_offset_ticks = base + EntryOrZero(options.phase_ticks, i);
    (*states)[i].tsc_adjust_ticks = EntryOrZero(options.tsc_adjust_ticks, i);
    (*states)[i].tsc_deadline_ticks = EntryOrZero(options.deadline_ticks, i);
  }
  tsc_kvm_target target = {};
  target.vcpu_count = view.vcpu_count;
  tsc_kvm_progress progress = {};
  tsc_kvmclock_result clock;
  tsc_kvm_fault fault;
  std::vector<tsc_vcpu_state> before(states->size());
  std::vector<tsc_vcpu_state> after(states->size());
  if (tsc_kvm_apply(ops, &view, &progress, &target, states->data(), before.data(), after.data(),
                    &clock, &fault) != TSC_KVM_OK) {
    return absl::InternalError(absl::StrCat("cannot give VM ", vm_id_, " its TSCs: step ",
                                            fault.step, ", ", strerror(fault.error)));
  }
  return absl::OkStatus();
}

tsc_vmm_config SimGuest::Config(const char* vmm_socket) {
  tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  config.agent_socket = vmm_socket;
  config.vm_id = vm_id_.c_str();
  config.vm_fd = vm_.vm_fd;
  config.vcpus = vm_.vcpus.data();
  config.vcpu_count = static_cast<uint32_t>(vm_.vcpus.size());
  config.ops = host_.OpsFor(process_);
  config.awaits_handoff = awaits_handoff_ ? 1 : 0;
  return config;
}

absl::StatusOr<UniqueFd> SimGuest::ConnectPair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return absl::ResourceExhaustedError(absl::StrCat("socketpair: ", strerror(errno)));
  UniqueFd agents_end(ends[0]);
  connection_ = UniqueFd(fcntl(ends[1], F_DUPFD_CLOEXEC, 0));
  const tsc_vmm_config config = Config(nullptr);
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_open_socket(&config, ends[1], &session_, why) != 0)
    return absl::InvalidArgumentError(why);
  return agents_end;
}

absl::Status SimGuest::Connect(const std::string& vmm_socket) {
  const tsc_vmm_config config = Config(vmm_socket.c_str());
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_open(&config, &session_, why) != 0) return absl::InvalidArgumentError(why);
  return absl::OkStatus();
}

absl::Status SimGuest::AwaitRegistered(absl::Duration timeout) {
  char why[TSC_VMM_ERROR_SIZE];
  const int timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(timeout));
  if (tsc_vmm_wait_registered(session_, timeout_ms, why) != 0) return absl::UnavailableError(why);
  return absl::OkStatus();
}

void SimGuest::Disconnect() {
  if (session_ != nullptr) tsc_vmm_close(std::exchange(session_, nullptr));
  connection_ = UniqueFd();
}

void SimGuest::CutConnection() { shutdown(connection_.get(), SHUT_RDWR); }

void SimGuest::Pause() {
  tsc_vmm_pause(session_);
  running_ = false;
}

absl::Status SimGuest::Resume() {
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_resume(session_, why) != 0) return absl::FailedPreconditionError(why);
  running_ = true;
  host_.RunAll(vm_);
  return absl::OkStatus();
}

absl::Status SimGuest::MayRun() const {
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_may_run(session_, why) == 0) return absl::FailedPreconditionError(why);
  return absl::OkStatus();
}

absl::Status SimGuest::AwaitPermit(absl::Duration timeout) {
  char why[TSC_VMM_ERROR_SIZE];
  const int timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(timeout));
  if (tsc_vmm_wait_permit(session_, timeout_ms, why) != 0)
    return absl::FailedPreconditionError(why);
  return absl::OkStatus();
}

uint64_t SimGuest::GuestTscAt(size_t i, int64_t true_ns) const {
  const int fd = vm_.vcpus[i].fd;
  const uint64_t host_ticks = host_.clock().TscAt(true_ns);
  const auto scaled =
      static_cast<uint64_t>((static_cast<unsigned __int128>(host_ticks) * host_.Ratio(fd)) >>
                            FracBits(host_.traits().vendor));
  return scaled + host_.Offset(fd);
}

std::vector<uint64_t> SimGuest::GuestTscAt(int64_t true_ns) const {
  std::vector<uint64_t> values;
  for (size_t i = 0; i < vm_.vcpus.size(); ++i) values.push_back(GuestTscAt(i, true_ns));
  return values;
}

std::vector<uint64_t> SimGuest::Offsets() const {
  std::vector<uint64_t> values;
  for (const tsc_kvm_vcpu& vcpu : vm_.vcpus) values.push_back(host_.Offset(vcpu.fd));
  return values;
}

uint32_t SimGuest::guest_khz() const {
  const tsc_kvm_ops* ops = host_.OpsFor(process_);
  const int khz = ops->ioctl(ops->ctx, vcpu_fd(0), KVM_GET_TSC_KHZ, nullptr);
  return khz > 0 ? static_cast<uint32_t>(khz) : 0;
}

absl::StatusOr<std::vector<tsc_vcpu_state>> SimGuest::Read() const {
  const tsc_kvm_vm view = vm_.view();
  tsc_kvm_progress progress = {};
  tsc_kvmclock clock;
  tsc_kvm_fault fault;
  std::vector<tsc_vcpu_state> states(vm_.vcpus.size());
  if (tsc_kvm_capture(host_.OpsFor(process_), &view, &progress, states.data(), &clock, &fault) !=
      TSC_KVM_OK) {
    return absl::InternalError(absl::StrCat("cannot read VM ", vm_id_, ": step ", fault.step,
                                            ", vCPU ", fault.vcpu_id, ", ", strerror(fault.error)));
  }
  return states;
}

}  // namespace tsc_handoff::sim
