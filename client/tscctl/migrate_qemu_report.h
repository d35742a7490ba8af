// What `tscctl migrate-qemu` tells: of a success, and of each way to fail where the VM is now and
// what to do.
//
// Threading: pure functions but for what they print.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_MIGRATE_QEMU_REPORT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_MIGRATE_QEMU_REPORT_H_

#include <optional>

#include "client/lib/handoff.h"
#include "client/qmp/migrate_vm.h"
#include "client/qmp/migration.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

struct QemuMigrationReport {
  qmp::MigrateResult result;
  bool was_running = false;
  qmp::MigrationFigures figures;
  // Absent with --plain, and where it did not come to it.
  std::optional<client::HandoffReport> handoff;
};

void PrintQemuMigration(const Options& options, const QemuMigrationReport& report, Io& io);

// REQUIRES: result.status is an error.
Failure QemuMigrationFailure(const Options& options, const QemuMigrationReport& report);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_MIGRATE_QEMU_REPORT_H_
