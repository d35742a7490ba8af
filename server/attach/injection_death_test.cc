// Death in the middle of an injection: of the tracer, at each of its steps, and of the target, at
// any moment.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "server/attach/testing/call_job.h"
#include "server/attach/testing/child.h"
#include "server/attach/testing/inject.h"
#include "server/base/error.h"

namespace {

std::function<void(const std::string&)> at_failpoint;

}  // namespace

extern "C" void tsc_handoff_failpoint(const char* name) {
  if (at_failpoint) at_failpoint(name);
}

namespace tsc_handoff::attach {
namespace {

const std::vector<std::string> kSteps = {
    "prepared",           "stopped",  "stub_written", "redirected", "mapped",   "payload_written",
    "told_to_go",         "running",  "ran",          "removing",   "unmapped", "mask_restored",
    "registers_restored", "detached", "stub_cleared"};
// From the second of these on the thread puts itself back; before, it has only been stopped.
const std::vector<std::string> kOnlyStopped = {"prepared", "stopped", "stub_written"};

// Long enough that the tracer looks at it while it runs. (nanosleep would take the thread's own
// restart away.)
std::vector<std::byte> JobOfTenMs() {
  std::vector<attach_call> calls = {
      {.number = SYS_ppoll, .args = {}, .relative = 4, .result = -1},
      {.number = SYS_getpid, .args = {}, .relative = 0, .result = -1}};
  calls[0].args[2] = sizeof(attach_job) + 2 * sizeof(attach_call);
  std::vector<std::byte> job = CallJob(calls, sizeof(timespec));
  const timespec time = {0, 10'000'000};
  memcpy(job.data() + calls[0].args[2], &time, sizeof(time));
  return job;
}

bool RunsAlone(pid_t pid) { return Fingerprint(pid).find("TracerPid:\t0") != std::string::npos; }

// A process that injects and is killed at a step.
void InjectAndDie(pid_t pid, const std::string& step, int attempts = 50) {
  const pid_t tracer = fork();
  if (tracer == 0) {
    at_failpoint = [&step](const std::string& name) {
      if (name != "attach." + step) return;
      kill(getpid(), SIGKILL);
      for (;;) pause();
    };
    auto result = Inject(pid, pid, JobOfTenMs());
    _exit(result.ok() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(tracer, &status, 0), tracer);
  // Whether the tracer looks at the job while it runs is chance on a busy machine: once more.
  if (step == "running" && status == 0 && attempts > 1) {
    InjectAndDie(pid, step, attempts - 1);
    return;
  }
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
      << step << " was not reached: " << status;
}

using WorkAndStep = std::tuple<std::string, std::string>;

class TracerDies : public testing::TestWithParam<WorkAndStep> {};

TEST_P(TracerDies, TheTargetGoesOnUnharmed) {
  const auto& [work, step] = GetParam();
  const bool only_stopped =
      std::find(kOnlyStopped.begin(), kOnlyStopped.end(), step) != kOnlyStopped.end();
  if (work == "EpollWait" && only_stopped) {
    GTEST_SKIP() << "Linux itself answers EINTR to epoll_wait when a thread was stopped";
  }
  Child child(AllWork().at(work));
  const std::string before = Fingerprint(child.pid());
  for (int times = 0; times < 2; ++times) {
    InjectAndDie(child.pid(), step);
    EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  }
  // The next one finds nothing in its way.
  auto result = Inject(child.pid(), child.pid(), JobOfTenMs());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ResultOf(result->job, 1), child.pid());
  EXPECT_EQ(DifferenceFrom(child.pid(), before), "");
  EXPECT_EQ(child.Finish(), "");
}

INSTANTIATE_TEST_SUITE_P(
    AtEveryStep, TracerDies,
    testing::Combine(testing::Values("Ppoll", "Poll", "Futex", "EpollWait", "Spin",
                                     "InSignalHandler", "CountingSignals"),
                     testing::ValuesIn(kSteps)),
    [](const auto& row) { return std::get<0>(row.param) + "_" + std::get<1>(row.param); });

TEST(TracerDies, AtAnyMomentWhateverItIs) {
  Child child(AllWork().at("CountingSignals"));
  const std::string before = Fingerprint(child.pid());
  for (int i = 0; i < 60; ++i) {
    const pid_t tracer = fork();
    if (tracer == 0) {
      for (;;) (void)Inject(child.pid(), child.pid(), CallJob({}));
    }
    usleep(static_cast<useconds_t>(2'000 + 137 * i));
    kill(tracer, SIGKILL);
    waitpid(tracer, nullptr, 0);
    ASSERT_EQ(DifferenceFrom(child.pid(), before), "");
  }
  EXPECT_TRUE(RunsAlone(child.pid()));
  EXPECT_EQ(child.Finish(), "");
}

class TargetDies : public testing::TestWithParam<std::string> {};

TEST_P(TargetDies, AtAStepIsSaid) {
  Child child(AllWork().at("ManyThreads"));
  at_failpoint = [&](const std::string& name) {
    if (name != "attach." + GetParam()) return;
    kill(child.pid(), SIGKILL);
  };
  auto result = Inject(child.pid(), child.pid(), JobOfTenMs());
  at_failpoint = nullptr;
  // Killed at the end, it may have come through first.
  EXPECT_TRUE(result.ok() || ReasonOf(result.status()) == Reason::kVmmGone) << result.status();
  child.WaitEnd();
}

INSTANTIATE_TEST_SUITE_P(AtEveryStep, TargetDies, testing::ValuesIn(kSteps),
                         [](const auto& row) { return row.param; });

TEST(TargetDies, AtAnyMomentIsSaid) {
  for (int i = 0; i < 60; ++i) {
    Child child(AllWork().at("Spin"));
    std::thread killer([&] {
      usleep(static_cast<useconds_t>(23 * i));
      kill(child.pid(), SIGKILL);
    });
    absl::Status status;
    for (int times = 0; status.ok() && times < 100'000; ++times) {
      status = Inject(child.pid(), child.pid(), CallJob({})).status();
    }
    killer.join();
    EXPECT_EQ(ReasonOf(status), Reason::kVmmGone) << status;
    child.WaitEnd();
  }
}

}  // namespace
}  // namespace tsc_handoff::attach
