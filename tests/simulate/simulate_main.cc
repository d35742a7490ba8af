// simulate: runs worlds of the handoff simulation, one per seed. See ./run simulate --help.
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "tests/simulate/bugs.h"
#include "tests/simulate/simulation.h"

namespace tsc_handoff::simulate {
namespace {

constexpr char kUsage[] =
    "usage: simulate [--seeds N] [--first S] [--keep-going] [--bug NAME]\n"
    "       simulate --seed S [--trace] [--bug NAME]\n"
    "\n"
    "Runs N simulated worlds (1000), the first with seed S (1). A world that breaks a promise ends "
    "the\n"
    "run with its trace; --keep-going only counts it. The same seed is the same world.\n"
    "--bug plants a mistake in the agents, which must be found: ";

struct Options {
  uint64_t seeds = 1000;
  uint64_t first = 1;
  bool one = false;
  bool trace = false;
  bool keep_going = false;
  Bugs bugs;
  std::string bug;
};

bool Parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto number = [&](uint64_t& value) {
      return ++i < argc && absl::SimpleAtoi(argv[i], &value);
    };
    if (name == "--seeds") {
      if (!number(options.seeds)) return false;
    } else if (name == "--first") {
      if (!number(options.first)) return false;
    } else if (name == "--seed") {
      if (!number(options.first)) return false;
      options.one = true;
    } else if (name == "--trace") {
      options.trace = true;
    } else if (name == "--bug") {
      const Bug* const bug = ++i < argc ? FindBug(argv[i]) : nullptr;
      if (bug == nullptr) return false;
      options.bugs = bug->bugs;
      options.bug = bug->name;
    } else if (name == "--keep-going") {
      options.keep_going = true;
    } else {
      return false;
    }
  }
  return true;
}

int RunOne(const Options& options) {
  Tally tally;
  const std::string wrong =
      Simulation(options.first, options.bugs, options.trace ? &std::cout : nullptr, tally).Run();
  std::cout << tally.Text();
  if (wrong.empty()) {
    std::cout << "seed " << options.first << ": nothing wrong\n";
    return 0;
  }
  std::cout << "seed " << options.first << ": " << wrong << "\n";
  return 1;
}

class Progress {
 public:
  void Show(uint64_t done, uint64_t of, const Tally& tally, bool last) {
    const auto now = std::chrono::steady_clock::now();
    if (!last && now - shown_ < std::chrono::seconds(2)) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    std::fprintf(stderr, "%llu of %llu seeds, %lld handoffs; %.0f seeds/s, %.0f handoffs/s\n",
                 static_cast<unsigned long long>(done), static_cast<unsigned long long>(of),
                 static_cast<long long>(tally[Fact::kHandoff]), static_cast<double>(done) / seconds,
                 static_cast<double>(tally[Fact::kHandoff]) / seconds);
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point shown_ = start_;
};

int RunMany(const Options& options) {
  Tally tally;
  Progress progress;
  uint64_t failed = 0;
  for (uint64_t i = 0; i < options.seeds; ++i) {
    const uint64_t seed = options.first + i;
    const std::string wrong = Simulation(seed, options.bugs, nullptr, tally).Run();
    progress.Show(i + 1, options.seeds, tally, i + 1 == options.seeds);
    if (wrong.empty()) continue;
    ++failed;
    std::cout << "seed " << seed << ": " << wrong << "\n"
              << "    again: ./run simulate --seed " << seed << " --trace"
              << (options.bug.empty() ? "" : " --bug ") << options.bug << "\n";
    if (options.keep_going) continue;
    Tally again;
    (void)Simulation(seed, options.bugs, &std::cout, again).Run();
    return 1;
  }
  std::cout << tally.Text() << options.seeds << " seeds, " << failed << " failed\n";
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tsc_handoff::simulate

int main(int argc, char** argv) {
  tsc_handoff::simulate::Options options;
  if (!tsc_handoff::simulate::Parse(argc, argv, options)) {
    std::fputs(tsc_handoff::simulate::kUsage, stderr);
    for (const auto& bug : tsc_handoff::simulate::kBugs) std::fprintf(stderr, " %s", bug.name);
    std::fputs("\n", stderr);
    return 2;
  }
  spdlog::set_level(spdlog::level::off);
  return options.one ? tsc_handoff::simulate::RunOne(options)
                     : tsc_handoff::simulate::RunMany(options);
}
