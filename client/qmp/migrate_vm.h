// MigrateVm: a live migration by QEMU with a handoff of the TSCs in the middle of it: which of the
// two decides what, and what becomes of the VM when one of them fails.
//
//     look at both QEMUs      | nothing is changed yet
//     look at both agents     | nothing is changed yet
//     QEMU moves the VM       | fails: it runs on the source, as if nothing had been
//     hand the TSCs over      | refused: back to the source; not decided: paused on both sides
//     cont                    | it is the destination's, whatever happens
//
// Pure but for what it is given. Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_QMP_MIGRATE_VM_H_
#define TSC_HANDOFF_CLIENT_QMP_MIGRATE_VM_H_

#include <functional>

#include "absl/status/status.h"
#include "client/qmp/migration.h"

namespace tsc_handoff::qmp {

struct HandedOver {
  enum class End {
    kMoved,     // the VM may run on the destination, and never again on the source
    kNotMoved,  // it may run on the source
    kOpen,      // it may run nowhere until somebody has ended the handoff
  } end = End::kOpen;
  // OK when the handoff did all that it was to do.
  absl::Status status;
};

// Runs `transfer` once when all is ready for it, and hands over after it: when it fails, its status
// is returned and nothing was begun. Without agents it is {kMoved, transfer()}.
using HandOver = std::function<HandedOver(const std::function<absl::Status()>& transfer)>;

enum class MigrateEnd {
  kNothingDone,  // the source was left as it was, and the destination waits
  kStayed,       // the VM is on the source as before; QEMU's migration did not happen
  kMoved,        // it is on the destination
  kReturned,     // it was moved and came back, because its TSCs could not be handed over
  kOpen,         // the handoff is not decided: paused on both sides
  kUnclear,      // a QEMU did not say what became of it
};

struct MigrateResult {
  MigrateEnd end = MigrateEnd::kNothingDone;
  // OK only if it moved and everything on the way was as it should.
  absl::Status status;
};

MigrateResult MigrateVm(QemuMigration& migration, const HandOver& hand_over);

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_MIGRATE_VM_H_
