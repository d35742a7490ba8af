#include "client/tscctl/evacuate.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/lib/agent_client.h"
#include "client/lib/handoff.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/handoff_commands.h"
#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using client::AgentClient;
using client::HandoffEnd;

// A row of the summary longer than this says "and N more".
constexpr size_t kMaxRows = 50;

enum class Outcome { kMoved, kAborted, kPending, kSkipped };

const char* NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kMoved:
      return "moved";
    case Outcome::kAborted:
      return "aborted";
    case Outcome::kPending:
      return "pending";
    case Outcome::kSkipped:
      return "skipped";
  }
  return "?";
}

struct Target {
  std::string address;
  std::unique_ptr<AgentClient> agent;
  std::string agent_id;
  size_t vms = 0;  // that go there
};

// One VM, or one handoff that was begun before.
struct Job {
  std::string vm_id;
  std::string handoff_id;  // of one to resume; empty: a new one
  Target* target = nullptr;
};

struct Done {
  Job job;
  std::string handoff_id;
  Outcome outcome = Outcome::kSkipped;
  std::string reason;
  std::string message;
};

// How often Ctrl-C was pressed. A signal's handler can reach nothing but a global.
std::atomic<int> interrupts{0};

class CountInterrupts {
 public:
  CountInterrupts() {
    interrupts = 0;
    struct sigaction action = {};
    action.sa_handler = [](int) { ++interrupts; };
    sigaction(SIGINT, &action, &before_);
  }
  ~CountInterrupts() { sigaction(SIGINT, &before_, nullptr); }
  CountInterrupts(const CountInterrupts&) = delete;
  CountInterrupts& operator=(const CountInterrupts&) = delete;

 private:
  struct sigaction before_;
};

// What has come of it so far, and its display: a bar on a terminal, a line for each VM otherwise.
class Progress {
 public:
  Progress(size_t jobs, Io& io) : jobs_(jobs), io_(io), started_(absl::Now()) {}

  void Add(Done done) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++counts_[done.outcome];
    if (!io_.json && !io_.show_progress) {
      io_.err << NameOf(done.outcome) << "  " << Printable(done.job.vm_id) << "  "
              << (done.job.target == nullptr ? "" : done.job.target->address)
              << (done.reason.empty() ? "" : "  " + done.reason) << "\n"
              << std::flush;
    }
    done_.push_back(std::move(done));
    if (io_.show_progress) Draw();
  }

  void Finish() {
    if (io_.show_progress) io_.err << "\n" << std::flush;
  }

  size_t count(Outcome outcome) const {
    const auto found = counts_.find(outcome);
    return found == counts_.end() ? 0 : found->second;
  }
  const std::vector<Done>& done() const { return done_; }
  double seconds() const { return absl::ToDoubleSeconds(absl::Now() - started_); }

 private:
  void Draw() {
    constexpr size_t kWidth = 30;
    const size_t filled = jobs_ == 0 ? kWidth : kWidth * done_.size() / jobs_;
    const double rate = static_cast<double>(done_.size()) / std::max(seconds(), 1e-3);
    io_.err << "\r[" << std::string(filled, '#') << std::string(kWidth - filled, '.') << "] "
            << done_.size() << "/" << jobs_ << "  moved " << count(Outcome::kMoved) << "  aborted "
            << count(Outcome::kAborted) << "  pending " << count(Outcome::kPending) << "  "
            << absl::StrFormat("%.0f/s", rate)
            << (interrupts > 0 ? "  stopping; Ctrl-C again to stop at once" : "") << "\x1b[K"
            << std::flush;
  }

  const size_t jobs_;
  Io& io_;
  const absl::Time started_;
  mutable std::mutex mutex_;
  std::map<Outcome, size_t> counts_;  // guarded by mutex_
  std::vector<Done> done_;            // guarded by mutex_
};

// Everything that an evacuation knows before it begins.
struct Plan {
  std::unique_ptr<AgentClient> source;
  std::string source_id;
  std::vector<Target> targets;
  std::vector<Job> jobs;       // what was begun first
  std::vector<Done> left_out;  // skipped
};

absl::Status Connect(const Options& options, Plan* plan) {
  auto source = ConnectTo(options.from, options);
  if (!source.ok()) return source.status();
  plan->source = *std::move(source);
  auto info = plan->source->GetHostInfo();
  if (!info.ok()) return client::Annotate(info.status(), absl::StrCat("ask ", options.from));
  plan->source_id = info->agent_id();
  for (const std::string& address : options.targets) {
    Target target;
    target.address = address;
    auto agent = ConnectTo(address, options);
    if (!agent.ok()) return agent.status();
    target.agent = *std::move(agent);
    info = target.agent->GetHostInfo();
    if (!info.ok()) return client::Annotate(info.status(), absl::StrCat("ask ", address));
    target.agent_id = info->agent_id();
    plan->targets.push_back(std::move(target));
  }
  return absl::OkStatus();
}

// What an earlier evacuation, or anybody, has begun between these hosts. The agents remember it.
absl::Status FindBegun(Plan* plan, std::set<std::string>* vms) {
  std::set<std::string> ids;
  const auto add = [&](const v1::Handoff& handoff, const std::string& vm_id) {
    for (Target& target : plan->targets) {
      if (handoff.ticket().destination_agent_id() != target.agent_id) continue;
      if (!ids.insert(handoff.handoff_id()).second) return;
      plan->jobs.push_back({vm_id, handoff.handoff_id(), &target});
      vms->insert(vm_id);
    }
  };
  auto begun = plan->source->ListHandoffs({"", true, false});
  if (!begun.ok()) return begun.status();
  for (const v1::Handoff& handoff : *begun) {
    if (handoff.side() == v1::Handoff::SIDE_SOURCE) add(handoff, handoff.vm_id());
  }
  // Released by the source, and not arrived: only the destination says so.
  for (Target& target : plan->targets) {
    begun = target.agent->ListHandoffs({"", true, false});
    if (!begun.ok()) return begun.status();
    for (const v1::Handoff& handoff : *begun) {
      if (handoff.ticket().source_agent_id() == plan->source_id) add(handoff, handoff.vm_id());
    }
  }
  return absl::OkStatus();
}

absl::Status FindVms(std::set<std::string> begun, Plan* plan) {
  std::map<std::string, std::vector<Target*>> waiting;
  for (Target& target : plan->targets) {
    const auto vms = target.agent->ListVms();
    if (!vms.ok()) return vms.status();
    for (const v1::Vm& vm : *vms) waiting[vm.vm_id()].push_back(&target);
  }
  const auto vms = plan->source->ListVms();
  if (!vms.ok()) return vms.status();
  for (const v1::Vm& vm : *vms) {
    if (begun.count(vm.vm_id()) > 0) continue;
    Job job{vm.vm_id(), "", nullptr};
    // It has left, or has not arrived: not this host's to hand over.
    if (!vm.may_run()) continue;
    const auto found = waiting.find(vm.vm_id());
    if (found == waiting.end()) {
      plan->left_out.push_back({job, "", Outcome::kSkipped, "NOT_WAITING",
                                "no destination has a VM of this id"});
      continue;
    }
    job.target = *std::min_element(found->second.begin(), found->second.end(),
                                   [](const Target* a, const Target* b) { return a->vms < b->vms; });
    ++job.target->vms;
    plan->jobs.push_back(std::move(job));
  }
  return absl::OkStatus();
}

Done RunJob(const Options& options, const Plan& plan, const Job& job) {
  client::HandoffRequest request;
  request.goal =
      job.handoff_id.empty() ? client::HandoffGoal::kFinish : client::HandoffGoal::kResume;
  request.handoff_id = job.handoff_id;
  request.source_vm_id = job.vm_id;
  request.apply = options.apply;
  request.apply.set_vm_id(job.vm_id);
  request.probe = options.probe;
  request.stop = [] { return interrupts > 1; };
  const client::HandoffReport report =
      client::Handoff(*plan.source, *job.target->agent, request);
  Done done;
  done.job = job;
  done.handoff_id = report.handoff_id;
  done.outcome = report.end == HandoffEnd::kMoved         ? Outcome::kMoved
                 : report.end == HandoffEnd::kUndone      ? Outcome::kAborted
                 : report.end == HandoffEnd::kNothingDone ? Outcome::kSkipped
                                                          : Outcome::kPending;
  if (!report.status.ok()) {
    done.reason = client::ReasonNameOf(report.status);
    if (done.reason.empty()) done.reason = absl::StatusCodeToString(report.status.code());
    done.message = std::string(report.status.message());
  }
  return done;
}

void RunJobs(const Options& options, const Plan& plan, Progress* progress) {
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  const size_t parallel = std::min(static_cast<size_t>(options.parallel), plan.jobs.size());
  for (size_t i = 0; i < parallel; ++i) {
    threads.emplace_back([&] {
      while (interrupts == 0) {
        const size_t number = next++;
        if (number >= plan.jobs.size()) return;
        progress->Add(RunJob(options, plan, plan.jobs[number]));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void PrintSummary(const Options& options, const Progress& progress, size_t not_begun, Io& io) {
  Table table({{"VM"}, {"TO"}, {"OUTCOME"}, {"WHY"}, {"GO ON WITH"}});
  size_t rows = 0;
  size_t more = 0;
  for (const Done& done : progress.done()) {
    if (done.outcome == Outcome::kMoved) continue;
    if (++rows > kMaxRows) {
      ++more;
      continue;
    }
    const std::string to = done.job.target == nullptr ? "-" : done.job.target->address;
    table.Add({Printable(done.job.vm_id), to, NameOf(done.outcome), Printable(done.reason),
               done.outcome == Outcome::kPending ? ResumeCommand(done.handoff_id, options.from, to)
                                                 : ""});
  }
  if (rows > 0) table.Print(io.out_palette, io.out);
  if (more > 0) io.out << "and " << more << " more.\n";
  io.out << absl::StrFormat("%d moved, %d aborted, %d pending, %d skipped, in %.1f s.\n",
                            progress.count(Outcome::kMoved), progress.count(Outcome::kAborted),
                            progress.count(Outcome::kPending), progress.count(Outcome::kSkipped),
                            progress.seconds());
  if (not_begun > 0) io.out << not_begun << " not begun, since it was interrupted.\n";
}

void PrintJson(const Progress& progress, size_t not_begun, Io& io) {
  using Json = nlohmann::ordered_json;
  Json json;
  for (const Outcome outcome :
       {Outcome::kMoved, Outcome::kAborted, Outcome::kPending, Outcome::kSkipped})
    json[NameOf(outcome)] = progress.count(outcome);
  json["not_begun"] = not_begun;
  json["seconds"] = progress.seconds();
  json["vms"] = Json::array();
  for (const Done& done : progress.done()) {
    Json vm;
    vm["vm"] = done.job.vm_id;
    vm["to"] = done.job.target == nullptr ? Json(nullptr) : Json(done.job.target->address);
    vm["outcome"] = NameOf(done.outcome);
    vm["handoff_id"] = done.handoff_id;
    vm["reason"] = done.reason;
    vm["message"] = done.message;
    json["vms"].push_back(std::move(vm));
  }
  io.out << DumpJson(json) << "\n";
}

}  // namespace

Result RunEvacuate(const Options& options, Io& io) {
  Plan plan;
  std::set<std::string> begun;
  absl::Status status = Connect(options, &plan);
  if (status.ok()) status = FindBegun(&plan, &begun);
  if (status.ok()) status = FindVms(std::move(begun), &plan);
  if (!status.ok()) return CallFailure(status, "evacuate");
  if (!io.json) {
    io.err << "evacuate: " << plan.jobs.size() << " VMs, " << options.parallel << " at a time; "
           << plan.left_out.size() << " left out\n"
           << std::flush;
  }
  Progress progress(plan.jobs.size() + plan.left_out.size(), io);
  for (Done& done : plan.left_out) progress.Add(std::move(done));
  {
    const CountInterrupts counting;
    RunJobs(options, plan, &progress);
  }
  progress.Finish();
  const size_t not_begun = plan.jobs.size() + plan.left_out.size() - progress.done().size();
  if (io.json) {
    PrintJson(progress, not_begun, io);
  } else {
    PrintSummary(options, progress, not_begun, io);
  }
  const size_t left = progress.count(Outcome::kAborted) + progress.count(Outcome::kPending) +
                      progress.count(Outcome::kSkipped) + not_begun;
  if (left == 0) return std::nullopt;
  Failure failure;
  failure.status = absl::AbortedError(absl::StrCat(left, " VMs were not handed over"));
  failure.situation = "Each VM may run on one host at the most; those not moved are where they were, or paused.";
  failure.next_step = "Mend what is named above, then run the same command again; it resumes what was begun.";
  return failure;
}

}  // namespace tsc_handoff::tscctl
