#include "server/attach/testing/child.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <new>
#include <set>
#include <sstream>

namespace tsc_handoff::attach {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace

Child::Child(ChildWork work)
    : state_(new (mmap(nullptr, sizeof(ChildState), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)) ChildState()),
      pid_(fork()) {
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool good = work(*state_);
    _exit(good ? 0 : 1);
  }
  if (!WaitFor([this] { return state_->ready.load() != 0; }))
    snprintf(state_->failure, sizeof(state_->failure), "never ready");
}

Child::~Child() {
  if (!waited_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  munmap(state_, sizeof(ChildState));
}

std::string Child::Finish() {
  state_->stop = 1;
  int status = 0;
  if (!WaitFor([this, &status] { return waitpid(pid_, &status, WNOHANG) == pid_; }))
    return "does not end";
  waited_ = true;
  if (WIFSIGNALED(status)) return std::string("killed by ") + strsignal(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return std::string("found: ") + state_->failure;
  return "";
}

void Child::WaitEnd() {
  waitpid(pid_, nullptr, 0);  // or the tracing thread, of the same process, has waited for it
  waited_ = true;
}

bool WaitFor(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(15);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    const timespec pause = {0, 100'000};
    nanosleep(&pause, nullptr);
  }
  return true;
}

std::string Descriptors(pid_t pid) {
  std::set<std::string> descriptors;
  if (DIR* const directory = opendir(("/proc/" + std::to_string(pid) + "/fd").c_str())) {
    while (const dirent* entry = readdir(directory)) descriptors.insert(entry->d_name);
    closedir(directory);
  }
  std::string out;
  for (const std::string& name : descriptors) out += name + ' ';
  return out;
}

// A child that sleeps again and again is looked at while it does: between two calls it may have
// another signal mask, and on a busy machine it may stand there for long. One that never sleeps is
// looked at as it is.
static std::string StatusAtRest(const std::string& root) {
  constexpr int kLooks = 500;
  std::ostringstream text;
  for (int look = 0; look < kLooks; ++look) {
    text.str("");
    text << std::ifstream(root + "status").rdbuf();
    if (text.str().find("State:\tS") != std::string::npos) break;
    sched_yield();
  }
  return text.str();
}

std::string Fingerprint(pid_t pid) {
  const std::string root = "/proc/" + std::to_string(pid) + "/";
  std::stringstream out;
  std::ifstream maps(root + "maps");
  for (std::string line; std::getline(maps, line);) {
    // A sanitizer's runtime maps memory of its own whenever it likes, but never code.
    if (!kSanitized || line.find("r-xp") != std::string::npos) out << line << '\n';
  }
  out << Descriptors(pid) << '\n';
  std::istringstream status(StatusAtRest(root));
  for (std::string line; std::getline(status, line);) {
    for (const char* key : {"SigBlk", "SigIgn", "SigCgt", "Threads", "TracerPid"}) {
      if (line.rfind(key, 0) == 0) out << line << '\n';
    }
  }
  return out.str();
}

std::string DifferenceFrom(pid_t pid, const std::string& fingerprint) {
  if (WaitFor([&] { return Fingerprint(pid) == fingerprint; })) return "";
  std::stringstream wanted(fingerprint);
  std::stringstream found(Fingerprint(pid));
  std::string wanted_line;
  std::string found_line;
  do {
    const bool more = static_cast<bool>(std::getline(wanted, wanted_line));
    if (!std::getline(found, found_line) && !more) return "";
  } while (wanted_line == found_line);
  return "was: " + wanted_line + "; is: " + found_line;
}

}  // namespace tsc_handoff::attach
