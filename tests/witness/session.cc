#include "tests/witness/session.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "absl/status/status.h"
#include "tests/witness/kvm_lists.h"

namespace tsc_handoff::witness {
namespace {

void Log(void*, tsc_vmm_level level, const char* line) {
  if (level >= TSC_VMM_INFO) std::fprintf(stderr, "witness: agent session: %s\n", line);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AgentSession>> AgentSession::Open(const Options& options,
                                                                 const Machine& machine) {
  std::vector<tsc_kvm_vcpu> vcpus;
  for (const Vcpu& vcpu : machine.vcpus()) vcpus.push_back({vcpu.id, vcpu.fd});
  tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  config.agent_socket = options.agent_socket.c_str();
  config.vm_id = options.vm_id.c_str();
  config.vm_fd = machine.vm_fd();
  config.vcpus = vcpus.data();
  config.vcpu_count = static_cast<uint32_t>(vcpus.size());
  config.log = Log;
  config.awaits_handoff = options.awaits_handoff ? 1 : 0;
  std::unique_ptr<AgentSession> session(new AgentSession(options.die_at_write));
  if (options.die_at_write > 0) {
    session->ops_ = *tsc_kvm_linux_ops();
    session->ops_.ioctl = IoctlOrDie;
    session->ops_.ctx = session.get();
    config.ops = &session->ops_;
  }
  char why[TSC_VMM_ERROR_SIZE] = "";
  if (tsc_vmm_open(&config, &session->session_, why) != 0) return absl::InvalidArgumentError(why);
  return session;
}

AgentSession::~AgentSession() {
  if (session_ != nullptr) tsc_vmm_close(session_);
}

int AgentSession::IoctlOrDie(void* ctx, int fd, unsigned long request, void* arg) {
  const bool is_write = request == KVM_SET_DEVICE_ATTR || request == kKvmSetMsrs ||
                        request == KVM_SET_TSC_KHZ || request == KVM_SET_CLOCK;
  std::atomic<uint32_t>& left = static_cast<AgentSession*>(ctx)->writes_left_;
  if (is_write && --left == 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();  // the signal may reach another thread first
  }
  const tsc_kvm_ops* const kernel = tsc_kvm_linux_ops();
  return kernel->ioctl(kernel->ctx, fd, request, arg);
}

absl::Status AgentSession::WaitRegistered(int timeout_ms) {
  char why[TSC_VMM_ERROR_SIZE] = "";
  if (tsc_vmm_wait_registered(session_, timeout_ms, why) != 0) return absl::UnavailableError(why);
  return absl::OkStatus();
}

void AgentSession::Pause() { tsc_vmm_pause(session_); }

absl::Status AgentSession::Resume() {
  char why[TSC_VMM_ERROR_SIZE] = "";
  if (tsc_vmm_resume(session_, why) != 0) return absl::FailedPreconditionError(why);
  return absl::OkStatus();
}

absl::Status AgentSession::MayRun() {
  char why[TSC_VMM_ERROR_SIZE] = "";
  if (tsc_vmm_may_run(session_, why) == 0) return absl::FailedPreconditionError(why);
  return absl::OkStatus();
}

}  // namespace tsc_handoff::witness
