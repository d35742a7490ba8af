// QemuMigration: the live migration of a VM between two QEMUs that know nothing of us, in steps
// that leave both in a state that can be named whatever fails. Pure but for the two monitors.
//
//     Prepare   both are fit for it; the destination will stay paused when it has loaded the VM
//     Transfer  the VM's memory and devices move; its vCPUs stand on both sides then
//     Finish    it runs on the destination, and the source's QEMU is gone
//   or
//     Return    it runs on the source again, and the destination's QEMU is gone
//
// Between Transfer and Finish the caller hands the TSCs over. QEMU has written all that it writes
// to them when it says that it has loaded the VM; docs/qemu.md tells what and when.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_QMP_MIGRATION_H_
#define TSC_HANDOFF_CLIENT_QMP_MIGRATION_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/qmp/monitor.h"

namespace tsc_handoff::qmp {

struct TransferProgress {
  std::string status;  // QEMU's word: "setup", "active", "device", "completed" ...
  uint64_t transferred_bytes = 0;
  uint64_t remaining_bytes = 0;  // of memory, in this pass
  uint64_t total_bytes = 0;      // of memory
};

struct MigrationOptions {
  // REQUIRED. Where the source sends the VM, for example "tcp:10.0.0.2:4444".
  std::string uri;
  // Where the destination is to listen, if it was started with `-incoming defer`; else empty.
  std::string incoming;
  // The VM's ids, which each QEMU's -name or -uuid must be; empty: not looked at.
  std::string source_vm_id;
  std::string destination_vm_id;
  // Both must run on KVM.
  bool require_kvm = true;
  // Leave the source's QEMU as it is after the move, with its copy of the VM paused.
  bool keep_source = false;
  // OPTIONAL. Called now and then while memory moves.
  std::function<void(const TransferProgress&)> progress;
  // OPTIONAL. How often somebody wants it to end: once cancels the transfer, twice leaves it.
  std::function<int()> interrupts;
  // Steady time.
  std::function<absl::Duration()> now;
};

struct MigrationFigures {
  // From the source's STOP to the destination's RESUME, as seen here: how long no vCPU ran. Absent
  // where the VM did not run before.
  std::optional<absl::Duration> downtime;
  // From the moment when both QEMUs had said that the VM is over to the `cont`: what the caller's
  // part of it is.
  absl::Duration loaded_to_cont;
  // Of the whole transfer, with the passes during which the VM ran.
  absl::Duration transfer;
  uint64_t transferred_bytes = 0;
  // QEMU's own figure, which counts to the end of its sending.
  int64_t qemu_downtime_ms = 0;
};

class QemuMigration {
 public:
  // Where it stands.
  enum class Stage {
    kNotBegun,  // nothing was changed that matters
    kStayed,    // the transfer did not happen; the VM is on the source as before
    kLoaded,    // the VM is on both sides and runs on neither
    kMoved,     // it is the destination's
    kReturned,  // it is the source's again
    kUnclear,   // a monitor did not say what became of it
  };

  // The monitors must outlive this.
  QemuMigration(Monitor& source, Monitor& destination, MigrationOptions options);

  // FAILED_PRECONDITION tells what is to be mended.
  absl::Status Prepare();
  // REQUIRES: Prepare. On an error the stage says how it stands; the VM is left, or made to run
  // again, on the source if possible.
  absl::Status Transfer();
  // REQUIRES: kLoaded. Lets the VM run on the destination if it ran before. On an error the stage
  // is kMoved all the same: the VM may run there and nowhere else.
  absl::Status Finish();
  // REQUIRES: kLoaded. The destination's copy is thrown away first.
  absl::Status Return();

  Stage stage() const { return stage_; }
  // Whether it ran when Prepare looked.
  bool was_running() const { return was_running_; }
  const MigrationFigures& figures() const { return figures_; }

 private:
  struct RunState {
    std::string status;
    bool running = false;
  };
  struct Transferred {
    TransferProgress progress;
    std::string error;
    int64_t downtime_ms = 0;
  };

  absl::StatusOr<RunState> StateOf(Monitor& monitor);
  absl::Status CheckFitness(Monitor& monitor, const std::string& vm_id);
  absl::Status CheckNames(Monitor& monitor, const std::string& vm_id);
  absl::StatusOr<size_t> VcpuCount(Monitor& monitor);
  absl::StatusOr<Transferred> QueryMigrate();

  // Until the source's part has ended in one way or the other.
  absl::Status WaitForSource();
  // One look at what the source says; sets `done` at its end.
  absl::Status LookAtSource(bool* done);
  void CancelWhenAsked();
  absl::Status WaitForDestination();
  absl::Status CheckLoaded();
  // After a transfer that came to nothing; returns `why`, with more where more went wrong.
  absl::Status BackOnSource(const absl::Status& why);
  absl::Status Resume(Monitor& monitor, std::optional<absl::Duration>* resumed_at);
  absl::Status WaitUntilSourceFinished();
  absl::Status ResumeSource();
  void Quit(Monitor& monitor);

  Monitor& source_;
  Monitor& destination_;
  const MigrationOptions options_;
  Stage stage_ = Stage::kNotBegun;
  bool was_running_ = false;
  bool cancel_sent_ = false;
  std::optional<absl::Duration> stopped_at_;
  absl::Duration loaded_at_;
  MigrationFigures figures_;
};

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_MIGRATION_H_
