// Counts what a failed capture or apply says of KVM: the ioctl that failed, the value that was not
// kept, the rollback.
//
// Threading: as Metrics.
#ifndef TSC_HANDOFF_SERVER_SERVICE_FAULT_METRICS_H_
#define TSC_HANDOFF_SERVER_SERVICE_FAULT_METRICS_H_

#include "absl/status/status.h"
#include "server/metrics/metrics.h"

namespace tsc_handoff::service {

// Nothing for a status that is OK or says nothing of an ioctl.
void CountFault(const absl::Status& status, metrics::Metrics& metrics);

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_FAULT_METRICS_H_
