// What a VM's vCPUs have, as the journal keeps it: to undo an apply, on this host and in this boot.
//
// Pure functions on plain values.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_SAVED_TSCS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_SAVED_TSCS_H_

#include <optional>
#include <string>
#include <vector>

#include "client/vmm/tsc_kvm.h"

namespace tsc_handoff::handoff {

struct SavedTscs {
  std::vector<tsc_vcpu_state> vcpus;  // ascending ids, at least one
  tsc_kvmclock kvmclock = {};         // as it was read before the apply
};

// Whether both have the same vCPUs with the same offsets.
bool SameOffsets(const std::vector<tsc_vcpu_state>& a, const std::vector<tsc_vcpu_state>& b);

// In this host's byte order, for this host's journal.
std::string Serialise(const SavedTscs& saved);
// nullopt when the bytes are not what Serialise makes.
std::optional<SavedTscs> ParseSavedTscs(const std::string& bytes);

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_SAVED_TSCS_H_
