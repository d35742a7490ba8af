#include "client/tscctl/migrate_qemu_report.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/format.h"
#include "client/tscctl/handoff_commands.h"
#include "client/tscctl/json_output.h"
#include "client/tscctl/json_text.h"
#include "client/tscctl/report.h"
#include "client/tscctl/transfer_progress.h"

namespace tsc_handoff::tscctl {
namespace {

using Json = nlohmann::ordered_json;
using qmp::MigrateEnd;

std::string Human(absl::Duration duration) { return HumanNs(absl::ToInt64Nanoseconds(duration)); }

Json AsJson(const Options& options, const QemuMigrationReport& report) {
  const qmp::MigrationFigures& figures = report.figures;
  const bool plain = options.qemu.plain;
  Json json;
  json["outcome"] = "moved";
  json["plain"] = plain;
  json["vm"] = plain ? Json(nullptr) : Json(options.vm);
  json["to_vm"] = plain ? Json(nullptr) : Json(options.apply.vm_id());
  json["downtime_ms"] = figures.downtime.has_value()
                            ? Json(absl::ToDoubleMilliseconds(*figures.downtime))
                            : Json(nullptr);
  json["added_downtime_ms"] = absl::ToDoubleMilliseconds(figures.loaded_to_cont);
  json["transfer_ms"] = absl::ToDoubleMilliseconds(figures.transfer);
  json["transferred_bytes"] = figures.transferred_bytes;
  json["qemu_downtime_ms"] = figures.qemu_downtime_ms;
  json["handoff"] = nullptr;
  if (report.handoff.has_value()) {
    json["handoff"] = Json::parse(HandoffAsJson(options, *report.handoff), /*cb=*/nullptr,
                                  /*allow_exceptions=*/false);
  }
  return json;
}

// Where the VM is, by how it ended.
std::string SituationOf(const QemuMigrationReport& report) {
  const char* there = report.was_running ? " runs" : " is paused";
  switch (report.result.end) {
    case MigrateEnd::kNothingDone:
      return "Nothing was changed: the source has its VM, and the destination's QEMU waits.";
    case MigrateEnd::kStayed:
      return absl::StrCat("The VM", there, " on the source, as before.");
    case MigrateEnd::kReturned:
      return absl::StrCat("The VM", there,
                          " on the source again, with the TSCs that it had; the destination's "
                          "QEMU was ended.");
    case MigrateEnd::kMoved:
      return "The VM is the destination's, and must never run on the source again.";
    case MigrateEnd::kOpen:
      return absl::StrCat("The VM is paused on both sides. ",
                          report.handoff.has_value() ? report.handoff->situation : "");
    case MigrateEnd::kUnclear:
      return "A QEMU did not say what became of the VM; it is paused on the destination, if it is "
             "there at all.";
  }
  return "";
}

std::string NextStepOf(const Options& options, const QemuMigrationReport& report) {
  switch (report.result.end) {
    case MigrateEnd::kMoved:
      return "Look at the destination's `query-status`, and give it `cont` if it is paused.";
    case MigrateEnd::kOpen:
      return absl::StrCat(
          "Go on with `", ResumeCommand(options.handoff_id, options.from, options.to),
          "`; then, by what it says, `cont` the destination's QEMU and `quit` the source's, or the "
          "other way round.");
    case MigrateEnd::kUnclear:
      return "Look at both QEMUs' `query-status` and `query-migrate` before either gets `cont`.";
    default:
      break;
  }
  const std::string advice = ProbeAdvice(report.result.status, options);
  if (!advice.empty()) return advice;
  if (client::IsFromAgent(report.result.status)) return "";  // it has its own
  switch (report.result.end) {
    case MigrateEnd::kStayed:
    case MigrateEnd::kReturned:
      return "Mend what is named, start the destination's QEMU anew, and run the same command.";
    default:
      return client::IsUnreachable(report.result.status)
                 ? ""
                 : "Mend what is named, and run the same command.";
  }
}

// For failures that have no agent's reason.
std::string ReasonOf(const QemuMigrationReport& report) {
  const absl::Status& status = report.result.status;
  if (!client::ReasonNameOf(status).empty()) return "";
  if (absl::IsCancelled(status)) return "INTERRUPTED";
  switch (report.result.end) {
    case MigrateEnd::kNothingDone:
      return absl::IsFailedPrecondition(status) ? "QEMU_NOT_FIT" : "";
    case MigrateEnd::kStayed:
      return "MIGRATION_FAILED";
    case MigrateEnd::kMoved:
      return "RESUME_FAILED";
    case MigrateEnd::kOpen:
      return "HANDOFF_PENDING";
    case MigrateEnd::kUnclear:
      return "MIGRATION_UNCLEAR";
    default:
      return "";
  }
}

}  // namespace

void PrintQemuMigration(const Options& options, const QemuMigrationReport& report, Io& io) {
  if (io.json) {
    io.out << DumpJson(AsJson(options, report)) << "\n";
    return;
  }
  if (report.handoff.has_value()) {
    const client::HandoffReport& handoff = *report.handoff;
    if (!handoff.captured_state.vcpus.empty() && handoff.applied.has_value())
      PrintApply(handoff, io);
    PrintWarnings("source", handoff.capture.warnings(), io);
    PrintWarnings("destination", handoff.apply.warnings(), io);
    io.out << "\n";
  }
  const qmp::MigrationFigures& figures = report.figures;
  Facts facts;
  facts.Add("memory sent",
            absl::StrCat(HumanBytes(figures.transferred_bytes), " in ", Human(figures.transfer)));
  if (figures.downtime.has_value()) {
    facts.Add("downtime",
              absl::StrCat(Human(*figures.downtime), ", of which ", Human(figures.loaded_to_cont),
                           options.qemu.plain ? " after QEMU was done" : " for the handoff"));
  }
  facts.Add("kvmclock", "left to QEMU, which lets it stand still during the downtime");
  facts.Print(io.out);
  io.out << io.out_palette.Bold(report.was_running
                                    ? "Moved: the VM runs on the destination."
                                    : "Moved: the VM is paused on the destination, as it was.")
         << "\n";
}

Failure QemuMigrationFailure(const Options& options, const QemuMigrationReport& report) {
  Failure failure = CallFailure(report.result.status, "migrate-qemu");
  failure.situation = SituationOf(report);
  failure.next_step = NextStepOf(options, report);
  failure.reason = ReasonOf(report);
  return failure;
}

}  // namespace tsc_handoff::tscctl
