// The witness VM: see kUsage in options.cc, and README.md here for the control protocol.
//
// Threading: the main thread serves the control socket; every vCPU has a thread, the agent session
// some of its own.

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/witness/commands.h"
#include "tests/witness/control.h"
#include "tests/witness/options.h"

namespace tsc_handoff::witness {
namespace {

using nlohmann::json;

enum ExitCode : int { kDone = 0, kFailed = 1, kBadUsage = 2, kNoKvm = 3, kRefused = 4 };

// Longer than the longest command, a pause that gives up.
constexpr int kReplyTimeoutMs = 30'000;

int Say(ExitCode code, const std::string& sentence) {
  std::fprintf(stderr, "witness: %s\n", sentence.c_str());
  return code;
}

int Say(ExitCode code, const absl::Status& status) {
  return Say(code, std::string(status.message()));
}

// The first failure of a vCPU, from its thread to the main one.
class FailureBox {
 public:
  FailureBox() : event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~FailureBox() { close(event_fd_); }
  FailureBox(const FailureBox&) = delete;
  FailureBox& operator=(const FailureBox&) = delete;

  void Put(const std::string& sentence) {
    {
      std::lock_guard lock(mutex_);
      if (sentence_.empty()) sentence_ = sentence;
    }
    eventfd_write(event_fd_, 1);
  }

  std::string Get() {
    std::lock_guard lock(mutex_);
    return sentence_;
  }

  int event_fd() const { return event_fd_; }

 private:
  const int event_fd_;
  std::mutex mutex_;
  std::string sentence_;  // guarded by mutex_
};

// Serves until "quit", SIGTERM, SIGINT or a vCPU's failure.
int ServeUntilEnd(WitnessVm* vm, ControlServer* server, FailureBox* failure, int signal_fd) {
  bool quit = false;
  while (!quit) {
    std::vector<pollfd> fds = {{.fd = signal_fd, .events = POLLIN, .revents = 0},
                               {.fd = failure->event_fd(), .events = POLLIN, .revents = 0}};
    server->AddPollFds(&fds);
    if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) {
      return Say(kFailed, std::string("poll: ") + std::strerror(errno));
    }
    if (fds[1].revents != 0) return Say(kFailed, failure->Get());
    if (fds[0].revents != 0) return kDone;
    server->Serve(fds, [&](const json& request) { return vm->Handle(request, &quit); });
  }
  return kDone;
}

int RunVm(const Options& options) {
  // Blocked before there are threads, so that all of them leave these signals to the descriptor.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  if (signal_fd < 0) return Say(kFailed, std::string("signalfd: ") + std::strerror(errno));

  FailureBox failure;
  auto vm = WitnessVm::Create(options,
                              [&failure](const std::string& sentence) { failure.Put(sentence); });
  if (!vm.ok()) return Say(absl::IsUnavailable(vm.status()) ? kNoKvm : kFailed, vm.status());
  auto server = ControlServer::Listen(options.control_path);
  if (!server.ok()) return Say(kFailed, server.status());
  if (absl::Status status = (*vm)->Register(); !status.ok()) {
    return Say(kRefused, "not registered at the agent: " + std::string(status.message()));
  }
  if (!options.incoming && !options.paused) {
    if (absl::Status status = (*vm)->Resume(); !status.ok())
      return Say(absl::IsFailedPrecondition(status) ? kRefused : kFailed, status);
  }
  std::printf("witness: VM %s with %zu vCPUs %s, control socket %s\n", options.vm_id.c_str(),
              options.vcpu_ids.size(),
              options.incoming ? "waits for \"load\""
              : options.paused ? "is paused"
                               : "runs",
              options.control_path.c_str());
  std::fflush(stdout);
  const int code = ServeUntilEnd(vm->get(), server->get(), &failure, signal_fd);
  // The agent hears that the VM is paused before it hears that it is gone.
  if (absl::Status status = (*vm)->Pause(); !status.ok()) Say(kFailed, status);
  close(signal_fd);
  return code;
}

int RunCtl(const std::vector<std::string>& args) {
  if (args.size() != 3 || args[0] != "--control")
    return Say(kBadUsage, "usage: witness ctl --control PATH REQUEST");
  absl::StatusOr<std::string> reply = SendRequest(args[1], args[2], kReplyTimeoutMs);
  if (!reply.ok()) return Say(kBadUsage, reply.status());
  std::printf("%s\n", reply->c_str());
  const json parsed = json::parse(*reply, nullptr, /*allow_exceptions=*/false);
  return parsed.is_object() && parsed.contains("ok") && parsed["ok"] == true ? kDone : kFailed;
}

int Main(const std::vector<std::string>& args) {
  if (!args.empty() && args[0] == "ctl") return RunCtl({args.begin() + 1, args.end()});
  absl::StatusOr<Options> options = ParseOptions(args);
  if (!options.ok())
    return Say(kBadUsage, std::string(options.status().message()) + " (see --help)");
  if (options->help) {
    std::fputs(kUsage, stdout);
    return kDone;
  }
  return RunVm(*options);
}

}  // namespace
}  // namespace tsc_handoff::witness

int main(int argc, char** argv) { return tsc_handoff::witness::Main({argv + 1, argv + argc}); }
