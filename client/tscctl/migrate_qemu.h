// `tscctl migrate-qemu`: a live migration of a stock QEMU's VM with a handoff of its TSCs.
//
// Threading: a function without shared state, but for Interrupts.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_MIGRATE_QEMU_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_MIGRATE_QEMU_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

Result RunMigrateQemu(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_MIGRATE_QEMU_H_
