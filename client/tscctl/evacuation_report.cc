#include "client/tscctl/evacuation_report.h"

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tscctl/format.h"
#include "client/tscctl/handoff_commands.h"
#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

// A table that is longer hides what it is for.
constexpr size_t kMaxRows = 50;

void PrintTable(const Options& options, const EvacuationProgress& progress, Io& io) {
  Table table({{"VM"}, {"TO"}, {"OUTCOME"}, {"WHY"}, {"GO ON WITH"}});
  size_t rows = 0;
  for (const EvacuationDone& done : progress.done()) {
    if (done.outcome == EvacuationOutcome::kMoved || ++rows > kMaxRows) continue;
    const std::string to = done.job.target == nullptr ? "-" : done.job.target->address;
    const bool can_resume =
        done.outcome == EvacuationOutcome::kPending && done.job.target != nullptr;
    table.Add({Printable(done.job.vm_id), to, NameOf(done.outcome), Printable(done.why.reason),
               can_resume ? ResumeCommand(Printable(done.handoff_id), options.from, to) : ""});
  }
  if (rows > 0) table.Print(io.out_palette, io.out);
  if (rows > kMaxRows)
    io.out << "and " << rows - kMaxRows << " more, all of which -o json lists.\n";
}

// Each reason once, in the words of the first VM that has it.
void PrintReasons(const EvacuationProgress& progress, Io& io) {
  std::map<std::string, size_t> vms;
  for (const EvacuationDone& done : progress.done()) {
    if (!done.why.reason.empty()) ++vms[done.why.reason];
  }
  for (const EvacuationDone& done : progress.done()) {
    const auto found = vms.find(done.why.reason);
    if (found == vms.end()) continue;
    io.out << Printable(done.why.reason);
    if (found->second > 1) {
      io.out << " (" << found->second << " VMs), of " << Printable(done.job.vm_id)
             << " for example";
    }
    io.out << ": " << Printable(done.why.message) << ". " << Printable(done.why.next_step) << "\n";
    vms.erase(found);
  }
}

void PrintJson(const EvacuationProgress& progress, Io& io) {
  using Json = nlohmann::ordered_json;
  Json json;
  for (const auto outcome : {EvacuationOutcome::kMoved, EvacuationOutcome::kAborted,
                             EvacuationOutcome::kPending, EvacuationOutcome::kSkipped})
    json[NameOf(outcome)] = progress.count(outcome);
  json["not_begun"] = progress.not_begun();
  json["seconds"] = progress.seconds();
  json["vms"] = Json::array();
  for (const EvacuationDone& done : progress.done()) {
    Json vm;
    vm["vm"] = done.job.vm_id;
    vm["to"] = done.job.target == nullptr ? Json(nullptr) : Json(done.job.target->address);
    vm["outcome"] = NameOf(done.outcome);
    vm["handoff_id"] = done.handoff_id;
    vm["reason"] = done.why.reason;
    vm["message"] = done.why.message;
    vm["next_step"] = done.why.next_step;
    json["vms"].push_back(std::move(vm));
  }
  io.out << DumpJson(json) << "\n";
}

}  // namespace

void PrintEvacuation(const Options& options, const EvacuationProgress& progress, Io& io) {
  if (io.json) {
    PrintJson(progress, io);
    return;
  }
  PrintTable(options, progress, io);
  PrintReasons(progress, io);
  io.out << absl::StrFormat("%d moved, %d aborted, %d pending, %d skipped, in %.1f s.\n",
                            progress.count(EvacuationOutcome::kMoved),
                            progress.count(EvacuationOutcome::kAborted),
                            progress.count(EvacuationOutcome::kPending),
                            progress.count(EvacuationOutcome::kSkipped), progress.seconds());
  if (progress.not_begun() > 0)
    io.out << progress.not_begun() << " not begun, since it was interrupted.\n";
}

}  // namespace tsc_handoff::tscctl
