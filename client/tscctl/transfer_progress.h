// Shows how far a VM's memory is on its way: a bar for a person at a terminal, otherwise a line for
// each new state of QEMU's migration; with JSON nothing.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TRANSFER_PROGRESS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TRANSFER_PROGRESS_H_

#include <string>

#include "client/qmp/migration.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

class TransferProgress {
 public:
  explicit TransferProgress(Io& io) : io_(io) {}

  void Show(const qmp::TransferProgress& now);
  // Somebody pressed Ctrl-C; told once.
  void TellOfInterrupt();
  // Ends the bar, so that other lines may follow. May be called twice.
  void End();

 private:
  void Draw(const qmp::TransferProgress& now);

  Io& io_;
  std::string last_status_;
  bool drawn_ = false;
  bool told_of_interrupt_ = false;
};

// "1.25 GiB", "812 KiB".
std::string HumanBytes(uint64_t bytes);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TRANSFER_PROGRESS_H_
