#include "tests/bench/rounds.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUpRounds = 3;

}  // namespace

void Rounds::AddKind(std::string name, std::function<absl::Status()> body,
                     std::function<absl::Status()> prepare, int every) {
  const auto timed = [body = std::move(body)]() -> absl::StatusOr<int64_t> {
    const auto start = Clock::now();
    const absl::Status status = body();
    const auto took = Clock::now() - start;
    if (!status.ok()) return status;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  };
  AddTimedKind(std::move(name), timed, std::move(prepare), every);
}

void Rounds::AddTimedKind(std::string name, std::function<absl::StatusOr<int64_t>()> body,
                          std::function<absl::Status()> prepare, int every) {
  samples_[name];
  kinds_.push_back({std::move(name), std::move(body), std::move(prepare), every});
}

absl::StatusOr<int64_t> Rounds::Take(const Kind& kind) {
  const absl::Status prepared = kind.prepare ? kind.prepare() : absl::OkStatus();
  absl::StatusOr<int64_t> took_ns = prepared.ok() ? kind.body() : prepared;
  if (!took_ns.ok())
    return absl::InternalError(absl::StrCat(kind.name, ": ", took_ns.status().message()));
  return took_ns;
}

absl::Status Rounds::TakeRound(int number) {
  std::vector<std::pair<Samples*, int64_t>> taken;
  for (size_t i = 0; i < kinds_.size(); ++i) {
    const Kind& kind = kinds_[(i + static_cast<size_t>(number)) % kinds_.size()];
    if (number % kind.every != 0) continue;
    auto took_ns = Take(kind);
    if (!took_ns.ok()) return took_ns.status();
    taken.emplace_back(&samples_[kind.name], *took_ns);
  }
  for (const auto& [samples, took_ns] : taken) samples->Add(took_ns);
  return absl::OkStatus();
}

absl::Status Rounds::Run(const RoundLimits& limits) {
  for (int i = 0; i < kWarmUpRounds; ++i) {
    for (const Kind& kind : kinds_) (void)Take(kind);
  }
  const auto end = Clock::now() + absl::ToChronoNanoseconds(limits.time);
  while (rounds_ < limits.max_rounds && (rounds_ < limits.min_rounds || Clock::now() < end)) {
    absl::Status status = TakeRound(rounds_);
    if (status.ok()) {
      ++rounds_;
      continue;
    }
    failure_ = std::string(status.message());
    if (++failed_rounds_ >= kMaxFailedRounds && failed_rounds_ > rounds_) return status;
  }
  return absl::OkStatus();
}

}  // namespace tsc_handoff::bench
