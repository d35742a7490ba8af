// UniqueFd: owns a file descriptor and closes it. Movable. Not thread-safe.
#ifndef TSC_HANDOFF_SERVER_BASE_UNIQUE_FD_H_
#define TSC_HANDOFF_SERVER_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace tsc_handoff {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(-1); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // Gives the descriptor up; the caller closes it.
  int Release() { return std::exchange(fd_, -1); }

 private:
  void Reset(int fd) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

  int fd_ = -1;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_UNIQUE_FD_H_
