#include "client/qmp/migrate_vm.h"

#include "absl/strings/str_cat.h"

namespace tsc_handoff::qmp {
namespace {

using Stage = QemuMigration::Stage;

// The first failure, with what failed after it.
absl::Status Both(const absl::Status& first, const absl::Status& second) {
  if (first.ok() || second.ok()) return first.ok() ? second : first;
  absl::Status both(first.code(), absl::StrCat(first.message(), "; and then: ", second.message()));
  // An agent's reason and advice travel in payloads.
  first.ForEachPayload([&both](absl::string_view type, const absl::Cord& payload) {
    both.SetPayload(type, payload);
  });
  return both;
}

MigrateResult AfterTransfer(QemuMigration& migration, const HandedOver& handed) {
  switch (handed.end) {
    case HandedOver::End::kMoved:
      return {MigrateEnd::kMoved, Both(handed.status, migration.Finish())};
    case HandedOver::End::kNotMoved: {
      const absl::Status returned = migration.Return();
      return {migration.stage() == Stage::kReturned ? MigrateEnd::kReturned : MigrateEnd::kUnclear,
              Both(handed.status, returned)};
    }
    case HandedOver::End::kOpen:
      return {MigrateEnd::kOpen, handed.status};
  }
  return {MigrateEnd::kUnclear, handed.status};
}

}  // namespace

MigrateResult MigrateVm(QemuMigration& migration, const HandOver& hand_over) {
  if (absl::Status status = migration.Prepare(); !status.ok())
    return {MigrateEnd::kNothingDone, status};
  const HandedOver handed = hand_over([&migration] { return migration.Transfer(); });
  switch (migration.stage()) {
    case Stage::kLoaded:
      return AfterTransfer(migration, handed);
    case Stage::kNotBegun:
      return {MigrateEnd::kNothingDone, handed.status};
    case Stage::kStayed:
      return {MigrateEnd::kStayed, handed.status};
    default:
      return {MigrateEnd::kUnclear, handed.status};
  }
}

}  // namespace tsc_handoff::qmp
