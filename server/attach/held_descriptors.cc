#include "server/attach/held_descriptors.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::attach {
namespace {

// Whether two processes' descriptors are of one open file; nullopt where the kernel does not say.
std::optional<bool> AreSame(pid_t pid, int fd, const UniqueFd& own) {
  const long order = syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, own.get(), fd);
  if (order >= 0) return order == 0;
  if (errno == EBADF) return false;
  return std::nullopt;
}

// Such as "anon_inode:kvm-vcpu:3".
std::string NameOf(const UniqueFd& own) {
  std::error_code error;
  return std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", own.get()), error).string();
}

}  // namespace

absl::StatusOr<HeldDescriptors> HeldDescriptors::Take(const Target& target, int vm_fd,
                                                      const std::vector<int>& vcpu_fds) {
  HeldDescriptors out;
  const auto take = [&target](int fd, UniqueFd& held, Number& number) {
    auto duplicate = target.Duplicate(fd);
    if (!duplicate.ok()) return duplicate.status();
    held = *std::move(duplicate);
    number = {fd, NameOf(held)};
    return absl::OkStatus();
  };
  if (absl::Status status = take(vm_fd, out.vm_, out.vm_number_); !status.ok()) return status;
  for (int fd : vcpu_fds) {
    absl::Status status = take(fd, out.vcpus_.emplace_back(), out.vcpu_numbers_.emplace_back());
    if (!status.ok()) return status;
  }
  return out;
}

absl::Status HeldDescriptors::CheckOne(const Target& target, const Number& number,
                                       const UniqueFd& held) const {
  std::optional<bool> same = AreSame(target.pid(), number.fd, held);
  if (!same.has_value()) {
    auto name = target.ReadLink(absl::StrCat("fd/", number.fd));
    if (!name.ok() && ReasonOf(name.status()) == Reason::kVmmGone) return name.status();
    same = name.ok() && *name == number.name;
  }
  if (*same) return absl::OkStatus();
  if (absl::Status status = target.CheckAlive(); !status.ok()) return status;
  return Error(Reason::kVmmGone,
               absl::StrCat("descriptor ", number.fd, " of process ", target.pid(),
                            " is no longer the ", number.name, " that was found there"),
               {{"pid", absl::StrCat(target.pid())}});
}

absl::Status HeldDescriptors::CheckUnchanged(const Target& target) const {
  if (absl::Status status = CheckOne(target, vm_number_, vm_); !status.ok()) return status;
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    if (absl::Status status = CheckOne(target, vcpu_numbers_[i], vcpus_[i]); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

}  // namespace tsc_handoff::attach
