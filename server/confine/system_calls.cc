#include "server/confine/system_calls.h"

#include <asm/unistd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cerrno>

namespace tsc_handoff::confine {
namespace {

// Whatever their arguments. Most names come from glibc, whose choice among old and new calls of one
// purpose changes: both are here.
constexpr int kAlways[] = {
    // Memory and threads. New mappings that may be executed have a rule of their own.
    __NR_brk, __NR_munmap, __NR_mremap, __NR_madvise, __NR_membarrier, __NR_futex, __NR_rseq,
    __NR_set_robust_list, __NR_get_robust_list, __NR_set_tid_address, __NR_arch_prctl, __NR_exit,
    __NR_exit_group, __NR_sched_yield, __NR_sched_getaffinity, __NR_sched_getparam,
    __NR_sched_getscheduler, __NR_getcpu,
    // Who and where it is.
    __NR_getpid, __NR_gettid, __NR_getppid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid,
    __NR_getgroups, __NR_getresuid, __NR_getresgid, __NR_uname, __NR_sysinfo, __NR_getrusage,
    __NR_times, __NR_getrandom, __NR_getcwd, __NR_umask,
    // Time. Clocks are read only: without CAP_SYS_TIME adjtimex changes nothing.
    __NR_clock_gettime, __NR_clock_getres, __NR_clock_nanosleep, __NR_nanosleep, __NR_gettimeofday,
    __NR_time, __NR_adjtimex, __NR_clock_adjtime, __NR_timer_create, __NR_timer_settime,
    __NR_timer_gettime, __NR_timer_getoverrun, __NR_timer_delete, __NR_timerfd_create,
    __NR_timerfd_settime, __NR_timerfd_gettime,
    // Signals that it gets.
    __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigreturn, __NR_rt_sigtimedwait,
    __NR_rt_sigsuspend, __NR_rt_sigpending, __NR_sigaltstack, __NR_pause, __NR_restart_syscall,
    // Waiting.
    __NR_poll, __NR_ppoll, __NR_select, __NR_pselect6, __NR_epoll_create, __NR_epoll_create1,
    __NR_epoll_ctl, __NR_epoll_wait, __NR_epoll_pwait, __NR_epoll_pwait2, __NR_eventfd,
    __NR_eventfd2, __NR_pipe, __NR_pipe2, __NR_inotify_init1, __NR_inotify_add_watch,
    __NR_inotify_rm_watch, __NR_pidfd_open,
    // Descriptors and what is in them.
    __NR_read, __NR_readv, __NR_pread64, __NR_preadv, __NR_write, __NR_writev, __NR_pwrite64,
    __NR_pwritev, __NR_lseek, __NR_close, __NR_close_range, __NR_dup, __NR_dup2, __NR_dup3,
    __NR_fcntl, __NR_flock, __NR_fsync, __NR_fdatasync, __NR_msync, __NR_ftruncate, __NR_fallocate,
    __NR_fadvise64, __NR_sendfile,
    // Files: configuration, journal, sockets' paths, /proc and /sys.
    __NR_open, __NR_openat, __NR_stat, __NR_lstat, __NR_fstat, __NR_newfstatat, __NR_statx,
    __NR_statfs, __NR_fstatfs, __NR_access, __NR_faccessat, __NR_faccessat2, __NR_readlink,
    __NR_readlinkat, __NR_getdents64, __NR_mkdir, __NR_mkdirat, __NR_unlink, __NR_unlinkat,
    __NR_rmdir, __NR_rename, __NR_renameat, __NR_renameat2, __NR_chmod, __NR_fchmod, __NR_fchmodat,
    __NR_utimensat,
    // SQLite gives new files of the journal to its owner, when it runs as root.
    __NR_fchown,
    // Sockets; their families have a rule of their own.
    __NR_bind, __NR_listen, __NR_accept, __NR_accept4, __NR_connect, __NR_shutdown,
    __NR_getsockname, __NR_getpeername, __NR_getsockopt, __NR_setsockopt, __NR_sendto,
    __NR_recvfrom, __NR_sendmsg, __NR_recvmsg, __NR_sendmmsg, __NR_recvmmsg, __NR_socketpair};

// KVM's descriptors of VMs and their vCPUs are checked, and told apart, and no more: no ioctl of
// KVM is among ioctl's rules, so that whoever overtakes the agent makes no VM of his own.
constexpr unsigned long kIoctls[] = {TCGETS, FIONREAD, FIONBIO, FIOCLEX, SIOCGIFNAME, SIOCGIFINDEX};

constexpr int kSocketFamilies[] = {AF_UNIX, AF_INET, AF_INET6};

// Names of threads, and what abseil's and glibc's allocators call their mappings.
constexpr int kPrctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA};

constexpr int kAttach[] = {__NR_ptrace,
                           __NR_process_vm_readv,
                           __NR_process_vm_writev,
                           __NR_pidfd_getfd,
                           __NR_kcmp,
                           __NR_wait4,
                           __NR_waitid,
                           __NR_tgkill,
                           __NR_pidfd_send_signal};

// The kernel takes 32 bits of such an argument; what stands above must not hide it from the filter.
constexpr uint64_t kLow = 0xffffffff;

scmp_arg_cmp Is(unsigned argument, uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, kLow, value};
}

scmp_arg_cmp Bits(unsigned argument, uint64_t mask, uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void AddThreads(std::vector<Rule>& rules) {
  // Threads, and neither processes nor namespaces.
  constexpr uint64_t kNamespaces = CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
                                   CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
  rules.push_back({__NR_clone, {Bits(0, CLONE_THREAD | kNamespaces, CLONE_THREAD)}});
}

void AddMemory(std::vector<Rule>& rules) {
  // Nothing is both written and executed. Libraries that glibc loads late (users' names) are mapped
  // to be executed, and never written.
  rules.push_back({__NR_mmap, {Bits(2, PROT_EXEC, 0)}});
  rules.push_back({__NR_mmap, {Bits(2, PROT_EXEC | PROT_WRITE, PROT_EXEC)}});
  rules.push_back({__NR_mprotect, {Bits(2, PROT_EXEC, 0)}});
}

void AddSelf(std::vector<Rule>& rules, pid_t self) {
  // abort() and raise().
  const auto id = static_cast<uint64_t>(self);
  rules.push_back({__NR_kill, {Is(0, id)}});
  rules.push_back({__NR_tgkill, {Is(0, id)}});
  // Limits are read, not changed.
  rules.push_back({__NR_getrlimit});
  rules.push_back({__NR_prlimit64, {{2, SCMP_CMP_EQ, 0, 0}}});
}

}  // namespace

std::vector<Rule> Declined() {
  return {
      // Its flags are in memory, where a filter does not see them. glibc then uses clone.
      {__NR_clone3, {}, SCMP_ACT_ERRNO(ENOSYS)},
      // glibc asks which addresses this host has; the unit does not let it, either.
      {__NR_socket, {Is(0, AF_NETLINK)}, SCMP_ACT_ERRNO(EAFNOSUPPORT)},
  };
}

std::vector<Rule> Allowed(pid_t self, bool attach) {
  std::vector<Rule> rules;
  for (const int call : kAlways) rules.push_back({call});
  if (attach) {
    for (const int call : kAttach) rules.push_back({call});
  }
  AddThreads(rules);
  AddMemory(rules);
  AddSelf(rules, self);
  for (const int family : kSocketFamilies)
    rules.push_back({__NR_socket, {Is(0, static_cast<uint64_t>(family))}});
  for (const unsigned long request : kIoctls) rules.push_back({__NR_ioctl, {Is(1, request)}});
  for (const int option : kPrctls)
    rules.push_back({__NR_prctl, {Is(0, static_cast<uint64_t>(option))}});
  for (const Rule& rule : Declined()) rules.push_back({rule.call, rule.when});
  return rules;
}

}  // namespace tsc_handoff::confine
