#include "client/tscctl/evacuate.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/lib/handoff.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/evacuation.h"
#include "client/tscctl/evacuation_progress.h"
#include "client/tscctl/evacuation_report.h"
#include "client/tscctl/interrupts.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using client::HandoffEnd;
using client::HandoffReport;
using Outcome = EvacuationOutcome;

// How often a person sees that time passes, and how soon that Ctrl-C was seen.
constexpr std::chrono::milliseconds kTick{200};
// A VMM looks for its agent at least every 2 s.
constexpr int kMostAgain = 10;
constexpr absl::Duration kAgainPause = absl::Milliseconds(500);

Outcome OutcomeOf(HandoffEnd end) {
  switch (end) {
    case HandoffEnd::kMoved:
      return Outcome::kMoved;
    case HandoffEnd::kUndone:
      return Outcome::kAborted;
    case HandoffEnd::kNothingDone:
      return Outcome::kSkipped;
    case HandoffEnd::kPending:
    case HandoffEnd::kUndecidable:
      return Outcome::kPending;
  }
  return Outcome::kPending;
}

HandoffReport HandOver(const Options& options, Evacuation& evacuation, const EvacuationJob& job) {
  client::HandoffRequest request;
  request.goal =
      job.handoff_id.empty() ? client::HandoffGoal::kFinish : client::HandoffGoal::kResume;
  request.handoff_id = job.handoff_id;
  request.source_vm_id = job.vm_id;
  request.apply = options.apply;
  request.apply.set_vm_id(job.vm_id);
  request.probe = options.probe;
  // The addresses are right: they answered. An agent that is started again meanwhile is awaited.
  request.max_looks = request.max_attempts;
  request.stop = [] { return Interrupts::count() > 1; };
  request.time.sleep = Interrupts::Sleep;
  HandoffReport report = client::Handoff(*evacuation.source.agent, *job.target->agent, request);
  if (report.silent == client::At::kSource) evacuation.source.silent = true;
  if (report.silent == client::At::kDestination) job.target->silent = true;
  return report;
}

// Whether that may be a VM whose agent is being started again: its VMM comes back within seconds.
// The source's agent may be the one that was to be probed; once, because where its address is wrong
// no patience helps.
bool MayPass(const absl::Status& status, bool first) {
  switch (client::ReasonOf(status)) {
    case v1::VM_NOT_FOUND:  // and it was there when it was listed
    case v1::VMM_GONE:
      return true;
    case v1::PEER_UNREACHABLE:
      return first;
    default:
      return false;
  }
}

// What is to be tried next, if anything. What was begun before and undone, since its source had
// given it up, leaves the VM where it was: it is handed over anew.
std::optional<EvacuationJob> Again(const EvacuationJob& job, const HandoffReport& report,
                                   bool first) {
  if (!report.status.ok() && !MayPass(report.status, first)) return std::nullopt;
  switch (report.end) {
    case HandoffEnd::kNothingDone:
      return job;
    case HandoffEnd::kPending:
      return EvacuationJob{job.vm_id, report.handoff_id, job.target};
    case HandoffEnd::kUndone:
      // With another id on the other side it is not known how it would be handed over.
      if (!report.source.has_value() ||
          report.source->vm_id() != report.source->ticket().destination_vm_id())
        return std::nullopt;
      return EvacuationJob{report.source->vm_id(), "", job.target};
    default:
      return std::nullopt;
  }
}

EvacuationDone NotTried(const EvacuationJob& job, const EvacuationHost& silent) {
  EvacuationDone done;
  done.job = job;
  done.handoff_id = job.handoff_id;
  done.outcome = job.handoff_id.empty() ? Outcome::kSkipped : Outcome::kPending;
  done.why = {"AGENT_UNREACHABLE",
              absl::StrCat("not tried, because agent ", silent.address, " has stopped answering"),
              "Look after that agent, then run the same command again."};
  return done;
}

Explanation WhyNot(const absl::Status& status) {
  if (status.ok()) return {};
  if (absl::IsCancelled(status) && Interrupts::count() > 1)
    return {"INTERRUPTED", "stopped as asked", "Run the same command again."};
  Failure failure = CallFailure(status, "");
  failure.status = status;
  return Explain(failure);
}

EvacuationDone RunJob(const Options& options, Evacuation& evacuation, const EvacuationJob& job) {
  for (const EvacuationHost* host : {&evacuation.source, job.target}) {
    if (host->silent) return NotTried(job, *host);
  }
  HandoffReport report = HandOver(options, evacuation, job);
  EvacuationJob now = job;
  for (int i = 0; i < kMostAgain && Interrupts::count() == 0; ++i) {
    const std::optional<EvacuationJob> again = Again(now, report, i == 0);
    if (!again.has_value()) break;
    if (!report.status.ok() && !Interrupts::Sleep(kAgainPause)) break;
    now = *again;
    report = HandOver(options, evacuation, now);
  }
  EvacuationDone done;
  done.job = job;
  done.handoff_id = report.handoff_id;
  done.outcome = OutcomeOf(report.end);
  done.why = WhyNot(report.status);
  return done;
}

// Runs the jobs from the `first` on, several at a time, and shows how far they are.
void RunJobs(const Options& options, size_t first, Evacuation& evacuation,
             EvacuationProgress& progress) {
  const size_t parallel =
      std::min(static_cast<size_t>(options.parallel), evacuation.jobs.size() - first);
  progress.Expect(evacuation.jobs.size() - first);
  std::atomic<size_t> next{first};
  std::mutex mutex;
  std::condition_variable ended;
  size_t working = parallel;  // guarded by mutex
  std::vector<std::thread> threads;
  for (size_t i = 0; i < parallel; ++i) {
    threads.emplace_back([&] {
      while (Interrupts::count() == 0) {
        const size_t number = next++;
        if (number >= evacuation.jobs.size()) break;
        progress.Add(RunJob(options, evacuation, evacuation.jobs[number]));
      }
      const std::lock_guard<std::mutex> lock(mutex);
      if (--working == 0) ended.notify_all();
    });
  }
  std::unique_lock<std::mutex> lock(mutex);
  while (!ended.wait_for(lock, kTick, [&] { return working == 0; })) progress.Tick();
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
}

bool AnySilent(const Evacuation& evacuation) {
  return evacuation.source.silent ||
         std::any_of(evacuation.targets.begin(), evacuation.targets.end(),
                     [](const EvacuationHost& target) { return target.silent.load(); });
}

// Until no VM comes any more: after a restart of the source's agent VMs register late.
absl::Status RunAll(const Options& options, Evacuation& evacuation, EvacuationProgress& progress) {
  const Interrupts interrupts;
  size_t first = 0;
  while (true) {
    for (; !evacuation.left_out.empty(); evacuation.left_out.pop_front())
      progress.LeaveOut(std::move(evacuation.left_out.front()));
    if (first == evacuation.jobs.size()) return absl::OkStatus();
    RunJobs(options, first, evacuation, progress);
    first = evacuation.jobs.size();
    if (Interrupts::count() > 0 || AnySilent(evacuation)) return absl::OkStatus();
    if (absl::Status status = FindVms(&evacuation); !status.ok()) return status;
  }
}

void PrintStart(const Options& options, const Evacuation& evacuation, Io& io) {
  const auto begun = std::count_if(evacuation.jobs.begin(), evacuation.jobs.end(),
                                   [](const auto& job) { return !job.handoff_id.empty(); });
  const size_t jobs = evacuation.jobs.size();
  io.err << "evacuate: " << jobs << (jobs == 1 ? " VM" : " VMs") << " to hand over, "
         << options.parallel << " at a time";
  if (begun > 0) io.err << "; " << begun << " of them were begun before";
  if (!evacuation.left_out.empty()) io.err << "; " << evacuation.left_out.size() << " left out";
  io.err << "\n" << std::flush;
}

Failure NotAll(size_t left, bool interrupted) {
  Failure failure;
  failure.status = absl::AbortedError(
      absl::StrCat("evacuate: ", left, left == 1 ? " VM was" : " VMs were", " not handed over"));
  failure.reason = interrupted ? "INTERRUPTED" : "NOT_ALL_MOVED";
  failure.situation =
      "Each VM may run on one host at the most; those not moved are where they were, or paused.";
  failure.next_step = interrupted
                          ? "Run the same command again; it goes on where this one stopped."
                          : "Mend what is named above, then run the same command again; it resumes "
                            "what was begun.";
  return failure;
}

}  // namespace

Result RunEvacuate(const Options& options, Io& io) {
  Evacuation evacuation;
  absl::Status status = Connect(options, &evacuation);
  if (status.ok()) status = FindBegun(&evacuation);
  if (status.ok()) status = FindVms(&evacuation);
  if (!status.ok()) return CallFailure(status, "evacuate");
  if (!io.json) PrintStart(options, evacuation, io);
  EvacuationProgress progress(io);
  status = RunAll(options, evacuation, progress);
  progress.Finish();
  PrintEvacuation(options, progress, io);
  const size_t left = progress.count(Outcome::kAborted) + progress.count(Outcome::kPending) +
                      progress.count(Outcome::kSkipped) + progress.not_begun();
  if (left > 0) return NotAll(left, progress.not_begun() > 0);
  if (status.ok()) return std::nullopt;
  Failure failure = CallFailure(status, "evacuate: look whether VMs have come meanwhile");
  failure.situation = "What is named above was moved.";
  failure.next_step = "Run the same command again.";
  return failure;
}

}  // namespace tsc_handoff::tscctl
