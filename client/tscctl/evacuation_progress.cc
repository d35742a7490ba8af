#include "client/tscctl/evacuation_progress.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/tscctl/format.h"
#include "client/tscctl/interrupts.h"

namespace tsc_handoff::tscctl {
namespace {

constexpr size_t kBarWidth = 20;
// A line that a narrow terminal would break could not be drawn over.
constexpr size_t kLineWidth = 79;
constexpr char kEraseLine[] = "\r\x1b[K";

}  // namespace

EvacuationProgress::EvacuationProgress(Io& io) : io_(io), started_(absl::Now()) {}

void EvacuationProgress::Expect(size_t jobs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  jobs_ += jobs;
  Draw();
}

void EvacuationProgress::LeaveOut(EvacuationDone done) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Keep(std::move(done));
}

void EvacuationProgress::Add(EvacuationDone done) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++finished_;
  Keep(std::move(done));
  Draw();
}

void EvacuationProgress::Tick() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (Interrupts::count() > 0 && !told_of_interrupt_ && !io_.json) {
    told_of_interrupt_ = true;
    io_.err << (io_.show_progress ? kEraseLine : "")
            << "evacuate: interrupted; ending those in progress, beginning no more. Ctrl-C again "
               "leaves those as they are.\n"
            << std::flush;
  }
  Draw();
}

void EvacuationProgress::Finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (io_.show_progress && jobs_ > 0) io_.err << "\n" << std::flush;
  std::stable_sort(done_.begin(), done_.end(),
                   [](const auto& a, const auto& b) { return a.outcome < b.outcome; });
}

size_t EvacuationProgress::count(EvacuationOutcome outcome) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Count(outcome);
}

size_t EvacuationProgress::not_begun() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return jobs_ - finished_;
}

double EvacuationProgress::seconds() const { return absl::ToDoubleSeconds(absl::Now() - started_); }

size_t EvacuationProgress::Count(EvacuationOutcome outcome) const {
  const auto found = counts_.find(outcome);
  return found == counts_.end() ? 0 : found->second;
}

void EvacuationProgress::Keep(EvacuationDone done) {
  ++counts_[done.outcome];
  if (!io_.json && !io_.show_progress) {
    const std::string to = done.job.target == nullptr ? "" : "  " + done.job.target->address;
    const std::string why = done.why.reason.empty() ? "" : "  " + Printable(done.why.reason);
    io_.err << NameOf(done.outcome) << "  " << Printable(done.job.vm_id) << to << why << "\n"
            << std::flush;
  }
  done_.push_back(std::move(done));
}

void EvacuationProgress::Draw() {
  if (!io_.show_progress || jobs_ == 0) return;
  const size_t filled = kBarWidth * finished_ / jobs_;
  std::string line =
      absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ",
                   finished_, "/", jobs_, "  moved ", Count(EvacuationOutcome::kMoved));
  for (const auto outcome :
       {EvacuationOutcome::kPending, EvacuationOutcome::kAborted, EvacuationOutcome::kSkipped}) {
    if (Count(outcome) > 0) absl::StrAppend(&line, "  ", NameOf(outcome), " ", Count(outcome));
  }
  const double rate = static_cast<double>(finished_) / std::max(seconds(), 1e-3);
  if (finished_ > 0 && finished_ < jobs_) {
    const absl::Duration left = absl::Seconds(static_cast<double>(jobs_ - finished_) / rate);
    absl::StrAppendFormat(&line, "  %.0f/s, %s left", rate,
                          absl::FormatDuration(absl::Ceil(left, absl::Seconds(1))));
  }
  line.resize(std::min(line.size(), kLineWidth));
  io_.err << kEraseLine << line << std::flush;
}

}  // namespace tsc_handoff::tscctl
