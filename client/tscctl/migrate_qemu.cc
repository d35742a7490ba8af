#include "client/tscctl/migrate_qemu.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/handoff.h"
#include "client/lib/retry.h"
#include "client/lib/rpc_error.h"
#include "client/qmp/migrate_vm.h"
#include "client/qmp/migration.h"
#include "client/qmp/qmp_address.h"
#include "client/qmp/qmp_client.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/interrupts.h"
#include "client/tscctl/migrate_qemu_report.h"
#include "client/tscctl/transfer_progress.h"

namespace tsc_handoff::tscctl {
namespace {

using client::HandoffEnd;
using qmp::HandedOver;
using qmp::QmpClient;
using Transfer = std::function<absl::Status()>;

// QEMU's monitor, or a failure with the reason for programs.
absl::StatusOr<std::unique_ptr<QmpClient>> ConnectMonitor(const std::string& text,
                                                          const Options& options) {
  const absl::StatusOr<qmp::QmpAddress> address = qmp::ParseQmpAddress(text);
  if (!address.ok()) return address.status();
  return QmpClient::Connect(*address, options.timeout);
}

Failure MonitorFailure(const absl::Status& status) {
  Failure failure = CallFailure(status, "migrate-qemu");
  failure.reason = "MONITOR_UNREACHABLE";
  failure.situation = "Nothing was changed.";
  failure.next_step =
      "Look whether that QEMU runs with `-qmp ADDRESS,server=on,wait=off`, and "
      "whether another program is connected to its monitor.";
  return failure;
}

HandedOver::End EndOf(HandoffEnd end) {
  switch (end) {
    case HandoffEnd::kMoved:
      return HandedOver::End::kMoved;
    case HandoffEnd::kNothingDone:
    case HandoffEnd::kUndone:
      return HandedOver::End::kNotMoved;
    case HandoffEnd::kPending:
    case HandoffEnd::kUndecidable:
      return HandedOver::End::kOpen;
  }
  return HandedOver::End::kOpen;
}

client::HandoffRequest RequestOf(const Options& options, const Transfer& transfer) {
  client::HandoffRequest request;
  request.handoff_id = options.handoff_id;
  request.source_vm_id = options.vm;
  request.apply = options.apply;
  request.probe = options.probe;
  request.before_capture = transfer;
  request.stop = [] { return Interrupts::count() > 1; };
  request.time.sleep = Interrupts::Sleep;
  return request;
}

qmp::MigrationOptions MigrationOptionsOf(const Options& options, TransferProgress& progress) {
  qmp::MigrationOptions migration;
  migration.uri = options.qemu.migrate_uri;
  migration.incoming = options.qemu.incoming;
  migration.source_vm_id = options.vm;
  migration.destination_vm_id = options.apply.vm_id();
  migration.require_kvm = !options.qemu.plain;
  migration.keep_source = options.qemu.keep_source;
  migration.progress = [&progress](const qmp::TransferProgress& now) { progress.Show(now); };
  migration.interrupts = [&progress] {
    if (Interrupts::count() > 0) progress.TellOfInterrupt();
    return Interrupts::count();
  };
  migration.now = client::SystemTime().steady_now;
  return migration;
}

struct Agents {
  std::unique_ptr<client::AgentClient> source;
  std::unique_ptr<client::AgentClient> destination;
};

// What moves the TSCs; with --plain nobody does.
qmp::HandOver HandOverBy(const Agents& agents, const Options& options,
                         std::optional<client::HandoffReport>* report) {
  if (options.qemu.plain) {
    return [](const Transfer& transfer) { return HandedOver{HandedOver::End::kMoved, transfer()}; };
  }
  return [&agents, &options, report](const Transfer& transfer) {
    *report = client::Handoff(*agents.source, *agents.destination, RequestOf(options, transfer));
    return HandedOver{EndOf((*report)->end), (*report)->status};
  };
}

}  // namespace

Result RunMigrateQemu(const Options& given, Io& io) {
  Options options = given;
  Agents agents;
  if (!options.qemu.plain) {
    for (auto [address, agent] :
         {std::pair(&options.from, &agents.source), std::pair(&options.to, &agents.destination)}) {
      auto connected = ConnectTo(*address, options);
      if (!connected.ok())
        return UsageFailure(connected.status().message(), "tscctl migrate-qemu --help");
      *agent = *std::move(connected);
    }
    if (options.handoff_id.empty()) options.handoff_id = client::NewHandoffId();
  }
  const auto source = ConnectMonitor(options.qemu.from_qmp, options);
  if (!source.ok()) return MonitorFailure(source.status());
  const auto destination = ConnectMonitor(options.qemu.to_qmp, options);
  if (!destination.ok()) return MonitorFailure(destination.status());
  // Before anything is begun, so that whoever interrupts this knows what to resume.
  if (!options.qemu.plain && io.show_progress)
    io.err << "handoff " << Printable(options.handoff_id) << "\n" << std::flush;

  const Interrupts interrupts;
  TransferProgress progress(io);
  qmp::QemuMigration migration(**source, **destination, MigrationOptionsOf(options, progress));
  std::optional<client::HandoffReport> handoff;
  const qmp::MigrateResult result =
      qmp::MigrateVm(migration, HandOverBy(agents, options, &handoff));
  progress.End();
  const QemuMigrationReport report{result, migration.was_running(), migration.figures(), handoff};
  if (!result.status.ok()) return QemuMigrationFailure(options, report);
  PrintQemuMigration(options, report, io);
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
