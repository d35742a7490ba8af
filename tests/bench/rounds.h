// Rounds: takes samples of several kinds in turn, one of each kind in a round, so that whatever
// else the machine does hits all kinds alike. Each round begins with another kind, so that none
// always finds the caches as the same other one left them. A round in which something fails counts
// as a whole as failed, so that the kinds stay comparable.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_BENCH_ROUNDS_H_
#define TSC_HANDOFF_TESTS_BENCH_ROUNDS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bench/samples.h"

namespace tsc_handoff::bench {

struct RoundLimits {
  int min_rounds = 30;
  int max_rounds = 1000;
  absl::Duration time = absl::Seconds(10);  // ends the rounds after min_rounds
};

class Rounds {
 public:
  // `body` is what is measured; `prepare` (may be empty) runs before it and is not. Taken in every
  // `every`-th round.
  void AddKind(std::string name, std::function<absl::Status()> body,
               std::function<absl::Status()> prepare = nullptr, int every = 1);

  // The same for what says itself how long it took, in ns.
  void AddTimedKind(std::string name, std::function<absl::StatusOr<int64_t>()> body,
                    std::function<absl::Status()> prepare = nullptr, int every = 1);

  // Warms up and runs. Gives up, with the last error, when kMaxFailedRounds have failed and more
  // than have not.
  absl::Status Run(const RoundLimits& limits);

  // Those that count, which all samples are from.
  int rounds() const { return rounds_; }
  int failed_rounds() const { return failed_rounds_; }
  // The last one, with the kind's name in front; empty when none failed.
  const std::string& failure() const { return failure_; }
  // REQUIRES: a kind of that name.
  const Samples& samples(const std::string& name) const { return samples_.at(name); }
  const std::map<std::string, Samples>& all() const { return samples_; }

 private:
  struct Kind {
    std::string name;
    std::function<absl::StatusOr<int64_t>()> body;  // the duration in ns
    std::function<absl::Status()> prepare;
    int every;
  };

  static constexpr int kMaxFailedRounds = 10;

  // The duration in ns.
  static absl::StatusOr<int64_t> Take(const Kind& kind);
  // One round. `number` turns the order, and says which kinds are due.
  absl::Status TakeRound(int number);

  std::vector<Kind> kinds_;
  std::map<std::string, Samples> samples_;
  int rounds_ = 0;
  int failed_rounds_ = 0;
  std::string failure_;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_ROUNDS_H_
