#include "tests/attach/attached_access.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/attach/attached_port.h"
#include "server/attach/target.h"
#include "server/base/error.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::contract {
namespace {

// What the two processes say to each other, each followed by states.
struct Request {
  bool apply = false;
  tsc_kvm_target target = {};
  uint32_t wanted = 0;
};

struct Answer {
  tsc_kvm_fault fault = {};
  tsc_kvmclock kvmclock = {};
  tsc_kvmclock_result kvmclock_result = {};
  uint32_t before = 0;
  uint32_t after = 0;
};

bool SendAll(int socket, const void* bytes, size_t size) {
  const char* at = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t sent = send(socket, at, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

bool ReceiveAll(int socket, void* bytes, size_t size) {
  return size == 0 || recv(socket, bytes, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

bool SendStates(int socket, const std::vector<tsc_vcpu_state>& states) {
  return SendAll(socket, states.data(), states.size() * sizeof(tsc_vcpu_state));
}

bool ReceiveStates(int socket, uint32_t count, std::vector<tsc_vcpu_state>& out) {
  out.resize(count);
  return ReceiveAll(socket, out.data(), count * sizeof(tsc_vcpu_state));
}

// A status that no fault stands behind, as the nearest fault.
void Explain(const absl::Status& status, const attach::AttachedPort& port, Answer& answer) {
  answer.fault = port.last_fault();
  if (status.ok() || answer.fault.outcome != TSC_KVM_OK) return;
  answer.fault.outcome =
      ReasonOf(status) == Reason::kVmRunning ? uint32_t{TSC_KVM_BLOCKED} : UINT32_MAX;
  fprintf(stderr, "attached access: %s\n", status.ToString().c_str());
}

// The attaching process: one request after another until the socket's end.
void Serve(int socket, attach::AttachedPort& port) {
  Request request;
  while (ReceiveAll(socket, &request, sizeof(request))) {
    port::ApplyOrder order;
    order.target = request.target;
    if (!ReceiveStates(socket, request.wanted, order.vcpus)) return;
    Answer answer;
    std::vector<tsc_vcpu_state> before;
    std::vector<tsc_vcpu_state> after;
    if (request.apply) {
      absl::StatusOr<port::Applied> applied = port.WriteAll(order, port::Hold::kNo);
      Explain(applied.status(), port, answer);
      if (applied.ok()) {
        before = applied->before;
        after = applied->after;
        answer.kvmclock_result = applied->kvmclock;
      }
    } else {
      absl::StatusOr<port::Capture> capture = port.ReadAll(port::Hold::kNo);
      Explain(capture.status(), port, answer);
      if (capture.ok()) {
        before = capture->vcpus;
        answer.kvmclock = capture->kvmclock;
      }
    }
    answer.before = static_cast<uint32_t>(before.size());
    answer.after = static_cast<uint32_t>(after.size());
    if (!SendAll(socket, &answer, sizeof(answer)) || !SendStates(socket, before) ||
        !SendStates(socket, after))
      return;
  }
}

class Attached final : public Access {
 public:
  static absl::StatusOr<std::unique_ptr<Access>> Open(ContractVm& vm) {
    std::unique_ptr<Attached> out(new Attached());
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return absl::InternalError("socketpair");
    out->socket_ = UniqueFd(ends[0]);
    const int server = ends[1];
    const tsc_kvm_vm handles = vm.vm();
    attach::AttachedVm attached;
    attached.vm_id = "contract";
    attached.vm_fd = handles.vm_fd;
    attached.vcpus.assign(handles.vcpus, handles.vcpus + handles.vcpu_count);
    attach::AttachedPortOptions options;
    options.tid = out->lent_tid_;
    options.ops = reinterpret_cast<uint64_t>(vm.interposer().ops());
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    const pid_t parent = getpid();
    out->server_ = fork();
    if (out->server_ == 0) {
      // Nothing of the VM is to be kept alive by this process.
      dup2(server, 3);
      close_range(4, ~0U, 0);
      absl::StatusOr<attach::Target> target = attach::Target::Open(parent);
      if (!target.ok()) _exit(1);
      attach::AttachedPort port(*std::move(target), std::move(attached), options);
      Serve(3, port);
      _exit(0);
    }
    close(server);
    if (out->server_ < 0) return absl::InternalError("fork");
    return out;
  }

  ~Attached() override {
    socket_ = UniqueFd();
    if (server_ > 0) waitpid(server_, nullptr, 0);
    (void)!write(wake_.second.get(), "x", 1);
    lent_.join();
  }

  CaptureResult Capture() override {
    CaptureResult out;
    std::vector<tsc_vcpu_state> after;
    const Answer answer = Call({}, {}, out.vcpus, after);
    out.fault = answer.fault;
    out.kvmclock = answer.kvmclock;
    return out;
  }

  ApplyResult Apply(const tsc_kvm_target& target,
                    const std::vector<tsc_vcpu_state>& wanted) override {
    ApplyResult out;
    const Answer answer =
        Call({true, target, static_cast<uint32_t>(wanted.size())}, wanted, out.before, out.after);
    out.fault = answer.fault;
    out.kvmclock = answer.kvmclock_result;
    return out;
  }

 private:
  Attached() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    wake_ = {UniqueFd(ends[0]), UniqueFd(ends[1])};
    lent_ = std::thread([this] {
      lent_tid_ = gettid();
      char byte;
      (void)!read(wake_.first.get(), &byte, 1);
    });
    while (lent_tid_ == 0) std::this_thread::yield();
  }

  Answer Call(const Request& request, const std::vector<tsc_vcpu_state>& wanted,
              std::vector<tsc_vcpu_state>& before, std::vector<tsc_vcpu_state>& after) {
    Answer answer;
    if (!SendAll(socket_.get(), &request, sizeof(request)) || !SendStates(socket_.get(), wanted) ||
        !ReceiveAll(socket_.get(), &answer, sizeof(answer)) ||
        !ReceiveStates(socket_.get(), answer.before, before) ||
        !ReceiveStates(socket_.get(), answer.after, after)) {
      answer.fault.outcome = UINT32_MAX;
    }
    return answer;
  }

  std::pair<UniqueFd, UniqueFd> wake_;
  std::atomic<pid_t> lent_tid_ = 0;
  std::thread lent_;
  UniqueFd socket_;
  pid_t server_ = -1;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Access>> AttachedAccess(ContractVm& vm) {
  return Attached::Open(vm);
}

}  // namespace tsc_handoff::contract
