// Shows how far an evacuation is: a bar for a person at a terminal, otherwise a line for each VM;
// with JSON nothing. Keeps what came of each.
//
// Threading: thread-safe, but for done().
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_PROGRESS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_PROGRESS_H_

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/tscctl/evacuation.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

class EvacuationProgress {
 public:
  explicit EvacuationProgress(Io& io);

  // So many more jobs are to be done.
  void Expect(size_t jobs);
  void LeaveOut(EvacuationDone done);
  void Add(EvacuationDone done);
  // To be called now and then: time has passed, or somebody pressed Ctrl-C.
  void Tick();
  // No more comes.
  void Finish();

  size_t count(EvacuationOutcome outcome) const;
  // Jobs that were not begun.
  size_t not_begun() const;
  double seconds() const;
  // After Finish(): all of them, the worst first.
  const std::vector<EvacuationDone>& done() const { return done_; }

 private:
  // With mutex_ held.
  void Keep(EvacuationDone done);
  void Draw();
  size_t Count(EvacuationOutcome outcome) const;

  Io& io_;
  const absl::Time started_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  size_t jobs_ = 0;
  size_t finished_ = 0;  // of these
  bool told_of_interrupt_ = false;
  std::map<EvacuationOutcome, size_t> counts_;
  std::vector<EvacuationDone> done_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_PROGRESS_H_
