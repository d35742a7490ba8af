// OwnDescriptors: takes every VM as it comes. What the benchmark measures is its own, which a real
// agent has checked in other tests.
//
// Threading: any.
#ifndef TSC_HANDOFF_TESTS_BENCH_OWN_DESCRIPTORS_H_
#define TSC_HANDOFF_TESTS_BENCH_OWN_DESCRIPTORS_H_

#include <cstdint>
#include <vector>

#include "server/port/descriptor_check.h"

namespace tsc_handoff::bench {

class OwnDescriptors final : public port::DescriptorCheck {
 public:
  absl::Status Check(const UniqueFd& /*vm*/, const std::vector<uint32_t>& /*ids*/,
                     const std::vector<UniqueFd>& /*vcpus*/) override {
    return absl::OkStatus();
  }
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_OWN_DESCRIPTORS_H_
