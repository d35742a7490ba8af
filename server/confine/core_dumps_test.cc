#include "server/confine/core_dumps.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

namespace tsc_handoff::confine {
namespace {

// Whether the kernel says that it dumped the core of a child that was aborted.
bool DumpsCore(bool forbid) {
  std::string directory = testing::TempDir() + "/coreXXXXXX";
  EXPECT_NE(mkdtemp(directory.data()), nullptr);
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit = {};
    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_CORE, &limit) != 0 || chdir(directory.c_str()) != 0) _exit(1);
    if (forbid && !ForbidCoreDumps().ok()) _exit(2);
    signal(SIGABRT, SIG_DFL);
    abort();
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
  std::error_code none;
  std::filesystem::remove_all(directory, none);
  return WCOREDUMP(status);
}

TEST(ForbidCoreDumpsTest, AnAbortLeavesNoCore) {
  if (!DumpsCore(false)) GTEST_SKIP() << "this machine dumps no core of any process";
  EXPECT_FALSE(DumpsCore(true));
}

}  // namespace
}  // namespace tsc_handoff::confine
