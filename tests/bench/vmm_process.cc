#include "tests/bench/vmm_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/bench/test_vm.h"
#include "tests/sim/sim_host.h"

namespace tsc_handoff::bench {
namespace {

using Clock = std::chrono::steady_clock;

enum Request : char {
  kAwaitRegistered = 'r',
  kCapture = 'c',
  kApply = 'a',
  kOrder = 'o',
};

// The first thing that it says.
struct Hello {
  char error[256] = {};  // empty: all is well, and a tsc_kvm_vcpu for each vCPU follows
  int32_t vm_fd = -1;
  uint64_t ops = 0;
};

bool SendAll(int socket, const void* bytes, size_t size) {
  return send(socket, bytes, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

bool ReceiveAll(int socket, void* bytes, size_t size) {
  return size == 0 || recv(socket, bytes, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

void Explain(const absl::Status& status, char (&error)[256]) {
  if (status.ok()) return;
  const std::string text(status.message());
  std::snprintf(error, sizeof(error), "%s", text.empty() ? "failed" : text.c_str());
}

template <typename Work>
int64_t TimedNs(Work work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

absl::Status RaiseDescriptorLimit(uint32_t vcpus) {
  const rlim_t needed = 256 + rlim_t{2} * vcpus;
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= needed) return absl::OkStatus();
  limit = {needed, std::max(limit.rlim_max, needed)};
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("needs ", needed, " descriptors: raise the hard limit (ulimit -Hn)"));
}

struct Answer {
  char error[256] = {};  // empty: all is well
  int64_t took_ns = 0;
  tsc_kvm_target target = {};  // of kOrder; after it comes a tsc_vcpu_state for each vCPU
};

absl::StatusOr<Answer> Ask(int socket, char what) {
  Answer answer;
  if (!SendAll(socket, &what, 1) || !ReceiveAll(socket, &answer, sizeof(answer)))
    return absl::UnavailableError("the VMM has ended");
  if (answer.error[0] != '\0') return absl::InternalError(answer.error);
  return answer;
}

// The VMM's side. It lives as long as the other end of the socket.
class Vmm {
 public:
  Vmm(const VmmOptions& options, int socket) : options_(options), socket_(socket) {}

  void Live() {
    Hello hello;
    Explain(Make(), hello.error);
    if (hello.error[0] == '\0') {
      hello.vm_fd = vm_->view().vm_fd;
      if (options_.simulated) hello.ops = reinterpret_cast<uint64_t>(vm_->ops());
    }
    if (!SendAll(socket_, &hello, sizeof(hello)) || hello.error[0] != '\0') return;
    const tsc_kvm_vm view = vm_->view();
    if (!SendAll(socket_, view.vcpus, view.vcpu_count * sizeof(tsc_kvm_vcpu))) return;
    MainLoop();
  }

 private:
  absl::Status Make() {
    if (absl::Status status = RaiseDescriptorLimit(options_.vcpus); !status.ok()) return status;
    absl::StatusOr<std::unique_ptr<TestVm>> vm =
        options_.simulated ? MakeSimulated() : MakeRealVm(options_.vcpus);
    if (!vm.ok()) return vm.status();
    vm_ = *std::move(vm);
    bare_ = std::make_unique<BareLoop>(*vm_, options_.host_khz);
    if (absl::Status status = bare_->MakeUnequal(); !status.ok()) return status;
    auto session = Session::Connect(*vm_, options_.vm_id, options_.agent_socket);
    if (!session.ok()) return session.status();
    session_ = *std::move(session);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<TestVm>> MakeSimulated() {
    sim::SimHostOptions host;
    host.clock.tsc_khz = options_.host_khz;
    host.kvm.vendor = sim::Vendor::kSvm;
    host.kvm.tsc_control = false;
    host.ioctl_ns = 0;  // what they take in real time is what counts here
    host.real_fds = true;
    host.record_calls = false;
    host_ = std::make_unique<sim::SimHost>(
        std::make_shared<sim::SimTime>(sim::SimTime::Mode::kLive), host);
    return MakeSimulatedVm(*host_, options_.vcpus, options_.ioctl_ns);
  }

  void MainLoop() {
    while (true) {
      pollfd request = {socket_, POLLIN, 0};
      if (ppoll(&request, 1, nullptr, nullptr) < 0 && errno != EINTR) return;
      char what = 0;
      if (!ReceiveAll(socket_, &what, 1)) return;
      Answer answer;
      absl::Status status;
      if (what == kAwaitRegistered) status = session_->AwaitRegistered();
      if (what == kCapture) answer.took_ns = TimedNs([&] { status = bare_->Capture(); });
      if (what == kApply && (status = bare_->Capture()).ok())
        answer.took_ns = TimedNs([&] { status = bare_->Apply(); });
      if (what == kOrder && (status = bare_->Capture()).ok()) answer.target = bare_->Target();
      Explain(status, answer.error);
      if (!SendAll(socket_, &answer, sizeof(answer))) return;
      const std::vector<tsc_vcpu_state>& states = bare_->states();
      if (what == kOrder && status.ok() &&
          !SendAll(socket_, states.data(), states.size() * sizeof(tsc_vcpu_state)))
        return;
    }
  }

  const VmmOptions& options_;
  const int socket_;
  std::unique_ptr<sim::SimHost> host_;
  std::unique_ptr<TestVm> vm_;
  std::unique_ptr<BareLoop> bare_;
  std::unique_ptr<Session> session_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<VmmProcess>> VmmProcess::Start(const VmmOptions& options) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return absl::UnavailableError(absl::StrCat("socketpair: ", strerror(errno)));
  std::unique_ptr<VmmProcess> process(new VmmProcess());
  process->socket_ = UniqueFd(ends[0]);
  const UniqueFd other(ends[1]);
  process->pid_ = fork();
  if (process->pid_ < 0) return absl::UnavailableError(absl::StrCat("fork: ", strerror(errno)));
  if (process->pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    process->socket_ = UniqueFd();
    Vmm(options, other.get()).Live();
    _exit(0);
  }
  Hello hello;
  if (!ReceiveAll(process->socket_.get(), &hello, sizeof(hello)))
    return absl::UnavailableError("the VMM has ended at once");
  if (hello.error[0] != '\0') return absl::UnavailableError(hello.error);
  process->vm_fd_ = hello.vm_fd;
  process->ops_ = hello.ops;
  process->vcpus_.resize(options.vcpus);
  if (!ReceiveAll(process->socket_.get(), process->vcpus_.data(),
                  process->vcpus_.size() * sizeof(tsc_kvm_vcpu)))
    return absl::UnavailableError("the VMM has ended at once");
  return process;
}

VmmProcess::~VmmProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::Status VmmProcess::AwaitRegistered() { return Ask(socket_.get(), kAwaitRegistered).status(); }

absl::StatusOr<int64_t> VmmProcess::BareCapture() {
  absl::StatusOr<Answer> answer = Ask(socket_.get(), kCapture);
  if (!answer.ok()) return answer.status();
  return answer->took_ns;
}

absl::StatusOr<int64_t> VmmProcess::BareApply() {
  absl::StatusOr<Answer> answer = Ask(socket_.get(), kApply);
  if (!answer.ok()) return answer.status();
  return answer->took_ns;
}

absl::StatusOr<port::ApplyOrder> VmmProcess::Order() {
  absl::StatusOr<Answer> answer = Ask(socket_.get(), kOrder);
  if (!answer.ok()) return answer.status();
  port::ApplyOrder order = {answer->target, std::vector<tsc_vcpu_state>(vcpus_.size())};
  if (!ReceiveAll(socket_.get(), order.vcpus.data(), order.vcpus.size() * sizeof(tsc_vcpu_state)))
    return absl::UnavailableError("the VMM has ended");
  return order;
}

}  // namespace tsc_handoff::bench
