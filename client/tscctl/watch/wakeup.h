// Wakeup: lets one thread wake another that waits in poll(). Threading: thread-safe.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_WAKEUP_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_WAKEUP_H_

#include <sys/eventfd.h>
#include <unistd.h>

namespace tsc_handoff::tscctl {

class Wakeup {
 public:
  Wakeup() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Wakeup() { close(fd_); }
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  // Readable from Wake() until Clear().
  int fd() const { return fd_; }
  void Wake() { eventfd_write(fd_, 1); }
  void Clear() {
    eventfd_t count = 0;
    eventfd_read(fd_, &count);
  }

 private:
  const int fd_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_WAKEUP_H_
