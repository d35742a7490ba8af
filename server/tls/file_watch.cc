#include "server/tls/file_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace tsc_handoff::tls {
namespace {

// What puts a name there or ends a write to it.
constexpr uint32_t kEvents =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void Empty(int fd) {
  std::array<char, 4096> events;
  while (read(fd, events.data(), events.size()) > 0) continue;
}

}  // namespace

FileWatch::FileWatch(const std::vector<std::string>& paths, std::function<void()> on_change,
                     Options options)
    : on_change_(std::move(on_change)),
      options_(options),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      stop_(eventfd(0, EFD_CLOEXEC)) {
  // A directory that is not there is left to the poll; twice the same one is one watch.
  for (const std::string& path : paths)
    inotify_add_watch(inotify_.get(), DirectoryOf(path).c_str(), kEvents);
  thread_ = std::thread([this] { Run(); });
}

FileWatch::~FileWatch() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

FileWatch::Woken FileWatch::Wait(std::chrono::milliseconds limit) {
  std::array<pollfd, 2> fds = {pollfd{stop_.get(), POLLIN, 0}, pollfd{inotify_.get(), POLLIN, 0}};
  const int ready = poll(fds.data(), fds.size(), static_cast<int>(limit.count()));
  if (fds[0].revents != 0) return Woken::kToStop;
  if (ready > 0 && (fds[1].revents & POLLIN) != 0) {
    Empty(inotify_.get());
    return Woken::kByFiles;
  }
  return Woken::kByTime;
}

void FileWatch::Run() {
  using std::chrono::milliseconds;
  using std::chrono::steady_clock;
  for (;;) {
    Woken woken = Wait(options_.poll);
    const auto give_up_at = steady_clock::now() + options_.settle_at_most;
    while (woken == Woken::kByFiles) {
      const auto left = std::chrono::duration_cast<milliseconds>(give_up_at - steady_clock::now());
      if (left <= milliseconds(0)) break;
      woken = Wait(std::min(left, options_.settle));
    }
    if (woken == Woken::kToStop) return;
    on_change_();
  }
}

}  // namespace tsc_handoff::tls
