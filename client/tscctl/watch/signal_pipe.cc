#include "client/tscctl/watch/signal_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace tsc_handoff::tscctl {
namespace {

std::atomic<int> write_end{-1};

void Note(int signal) {
  const int saved_errno = errno;
  const auto byte = static_cast<unsigned char>(signal);
  // A full pipe has plenty to read already.
  [[maybe_unused]] const ssize_t written = write(write_end.load(), &byte, 1);
  errno = saved_errno;
}

}  // namespace

SignalPipe::SignalPipe(const std::vector<int>& signals) {
  // Without descriptors signals keep their meaning, so that the process can still be ended.
  if (pipe2(ends_, O_CLOEXEC | O_NONBLOCK) != 0) return;
  write_end = ends_[1];
  for (const int signal : signals) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_IGN) continue;
    struct sigaction action = {};
    action.sa_handler = Note;
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);
    before_.emplace_back(signal, before);
  }
}

SignalPipe::~SignalPipe() {
  for (const auto& [signal, before] : before_) sigaction(signal, &before, nullptr);
  write_end = -1;
  for (const int end : ends_) {
    if (end >= 0) close(end);
  }
}

std::optional<int> SignalPipe::Take() {
  unsigned char byte = 0;
  if (read(ends_[0], &byte, 1) != 1) return std::nullopt;
  return byte;
}

}  // namespace tsc_handoff::tscctl
