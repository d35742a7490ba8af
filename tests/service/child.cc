#include "tests/service/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "tests/service/pair.h"

namespace tsc_handoff {

Child::Child(const std::vector<std::string>& arguments) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe2: " << strerror(errno);
    return;
  }
  const UniqueFd childs_in(in[0]);
  const UniqueFd childs_out(out[1]);
  stdin_ = UniqueFd(in[1]);
  stdout_ = UniqueFd(out[0]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, childs_in.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, childs_out.get(), STDOUT_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int failed = posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    pid_ = -1;
    ADD_FAILURE() << arguments[0] << ": " << strerror(failed);
  }
}

Child::~Child() { Kill(); }

std::string Child::ReadLine() {
  std::string line;
  while (true) {
    pollfd readable = {stdout_.get(), POLLIN, 0};
    if (poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) <= 0)
      return line;
    char c;
    if (read(stdout_.get(), &c, 1) != 1 || c == '\n') return line;
    line += c;
  }
}

void Child::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  Wait();
}

int Child::Wait() {
  int status = 0;
  const pid_t pid = std::exchange(pid_, -1);
  if (pid <= 0 || waitpid(pid, &status, 0) != pid) return 0;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace tsc_handoff
