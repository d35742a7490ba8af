#include "server/host/tsc_monotonic.h"

#include <sched.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::host {
namespace {

// A host whose CPUs' TSCs differ by constants. A move to another CPU takes 10,000 ticks.
class Cpus {
 public:
  explicit Cpus(std::map<int, int64_t> ahead_ticks) : ahead_ticks_(std::move(ahead_ticks)) {}

  ReadTscOn Reader() {
    return [this](int cpu) -> std::optional<uint64_t> {
      visited_.push_back(cpu);
      now_ticks_ += 10'000;
      if (!ahead_ticks_.contains(cpu)) return std::nullopt;
      return static_cast<uint64_t>(now_ticks_ + ahead_ticks_.at(cpu));
    };
  }
  const std::vector<int>& visited() const { return visited_; }

 private:
  const std::map<int, int64_t> ahead_ticks_;
  int64_t now_ticks_ = 1'000'000'000;
  std::vector<int> visited_;
};

bool Never() { return false; }

TEST(FindTscGoingBackTest, SynchronisedCpusAreOneClock) {
  Cpus cpus({{0, 0}, {1, 0}, {5, 0}});
  EXPECT_EQ(FindTscGoingBack({0, 1, 5}, cpus.Reader(), Never), "");
  EXPECT_EQ(cpus.visited(), (std::vector<int>{0, 1, 5, 5, 1, 0}))
      << "every CPU, in both directions";
}

TEST(FindTscGoingBackTest, FindsACpuThatIsBehind) {
  Cpus cpus({{0, 0}, {1, 0}, {2, -3'000'000}});
  const std::string problem = FindTscGoingBack({0, 1, 2}, cpus.Reader(), Never);
  EXPECT_NE(problem.find("the TSC of CPU 2 is at least 2990000 ticks behind that of CPU 1"),
            std::string::npos)
      << problem;
}

TEST(FindTscGoingBackTest, FindsACpuThatIsAhead) {
  // Going up nothing falls; coming back from the CPU that is ahead does.
  Cpus cpus({{0, 0}, {1, 0}, {2, 3'000'000}});
  const std::string problem = FindTscGoingBack({0, 1, 2}, cpus.Reader(), Never);
  EXPECT_NE(problem.find("the TSC of CPU 1 is at least 2990000 ticks behind that of CPU 2"),
            std::string::npos)
      << problem;
}

TEST(FindTscGoingBackTest, PassesOverCpusThatCannotBeReached) {
  Cpus cpus({{0, 0}, {2, -3'000'000}});
  EXPECT_NE(FindTscGoingBack({0, 1, 2}, cpus.Reader(), Never), "");
  Cpus none({});
  EXPECT_EQ(FindTscGoingBack({0, 1}, none.Reader(), Never), "");
  EXPECT_EQ(FindTscGoingBack({}, none.Reader(), Never), "");
}

TEST(FindTscGoingBackTest, StopsWhenItsTimeIsSpent) {
  std::map<int, int64_t> many;
  std::vector<int> ids;
  for (int cpu = 0; cpu < 1000; ++cpu) {
    many[cpu] = 0;
    ids.push_back(cpu);
  }
  Cpus cpus(many);
  EXPECT_EQ(FindTscGoingBack(ids, cpus.Reader(), [&] { return cpus.visited().size() >= 7; }), "");
  EXPECT_EQ(cpus.visited().size(), 7u);
}

TEST(MonotonicAcrossCpusTest, LeavesTheCallersAffinityAlone) {
  cpu_set_t before;
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  MonotonicAcrossCpus(std::chrono::milliseconds(25));
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(MonotonicAcrossCpusTest, SpendsNoMoreThanItsBudget) {
  EXPECT_EQ(MonotonicAcrossCpus(std::chrono::milliseconds(0)), "");
}

}  // namespace
}  // namespace tsc_handoff::host
