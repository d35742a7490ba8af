#include "server/discovery/vm_events.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/discovery/kvm_processes.h"

namespace tsc_handoff::discovery {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kChanges = IN_CREATE | IN_DELETE | IN_ONLYDIR;

void Add(const UniqueFd& epoll, const UniqueFd& fd) {
  epoll_event event = {.events = EPOLLIN, .data = {.fd = fd.get()}};
  epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event);
}

bool IsReadable(const UniqueFd& fd) {
  pollfd readable = {fd.get(), POLLIN, 0};
  return poll(&readable, 1, 0) == 1;
}

}  // namespace

VmEvents::VmEvents(std::string proc, std::string debugfs_kvm)
    : proc_(std::move(proc)),
      debugfs_kvm_(std::move(debugfs_kvm)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  Add(epoll_, wake_);
  Add(epoll_, inotify_);
  TryToWatch();
}

void VmEvents::TryToWatch() {
  if (watch_ >= 0) return;
  watch_ = inotify_add_watch(inotify_.get(), debugfs_kvm_.c_str(), kChanges);
  WatchVcpus();
}

// The VMs that are watched already are watched as before.
void VmEvents::WatchVcpus() {
  std::error_code error;
  for (fs::directory_iterator vm(debugfs_kvm_, error), end; !error && vm != end;
       vm.increment(error)) {
    std::error_code none;
    if (vm->is_directory(none)) inotify_add_watch(inotify_.get(), vm->path().c_str(), kChanges);
  }
}

bool VmEvents::HasEnded(const ProcessId& process) const {
  std::ifstream file(absl::StrCat(proc_, "/", process.pid, "/stat"), std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return ParseStartTime(text.str()) != process.start_time_ticks;
}

void VmEvents::WatchEndsOf(const std::vector<ProcessId>& processes) {
  const std::set<ProcessId> wanted(processes.begin(), processes.end());
  std::erase_if(pidfds_, [&](const auto& held) { return wanted.count(held.first) == 0; });
  for (const ProcessId& process : wanted) {
    if (pidfds_.count(process) > 0) continue;
    UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
    // It was named by number: what has the number now may be another one.
    if (!pidfd.valid() || HasEnded(process)) {
      ended_ = true;
      continue;
    }
    Add(epoll_, pidfd);
    pidfds_.emplace(process, std::move(pidfd));
  }
}

bool VmEvents::Wait(std::chrono::milliseconds at_most) {
  TryToWatch();
  if (std::exchange(ended_, false)) return true;
  const auto deadline = std::chrono::steady_clock::now() + at_most;
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    epoll_event event = {};
    const int count =
        epoll_wait(epoll_.get(), &event, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (count == 0) return false;
    if (count > 0 && Drain()) return true;
  }
}

bool VmEvents::Drain() {
  eventfd_t ignored = 0;
  const bool woken = eventfd_read(wake_.get(), &ignored) == 0;
  const bool directories = DrainDirectories();
  // An ended process is told once.
  const size_t ended =
      std::erase_if(pidfds_, [](const auto& held) { return IsReadable(held.second); });
  return woken || directories || ended > 0;
}

bool VmEvents::DrainDirectories() {
  bool any = false;
  alignas(inotify_event) std::array<char, 4096> events;
  ssize_t length = 0;
  while ((length = read(inotify_.get(), events.data(), events.size())) > 0) {
    for (ssize_t at = 0; at < length;) {
      const auto* const event = reinterpret_cast<const inotify_event*>(events.data() + at);
      // KVM makes files in there, too, one for each of its statistics.
      any |= (event->mask & (IN_ISDIR | IN_Q_OVERFLOW)) != 0;
      if ((event->mask & IN_IGNORED) != 0 && event->wd == watch_) watch_ = -1;
      at += static_cast<ssize_t>(sizeof(*event) + event->len);
    }
  }
  if (any) WatchVcpus();
  return any;
}

void VmEvents::Wake() { (void)eventfd_write(wake_.get(), 1); }

}  // namespace tsc_handoff::discovery
