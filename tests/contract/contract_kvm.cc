// The contract on this machine's /dev/kvm. Run as root with debugfs mounted at /sys/kernel/debug.
//
//     contract_kvm [--require=kvm,kept,scaling,debugfs,masterclock] [gtest's flags]
//
// A test skips where the machine lacks what it is about. --require turns a lack into a failure:
// where a run is meant to prove something, nothing may pass by being skipped.

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "tests/contract/contract_suite.h"
#include "tests/contract/port_access.h"
#include "tests/contract/real_backend.h"

namespace tsc_handoff::contract {
namespace {

const ContractParam kDirect = {"Direct", MakeRealBackend, DirectAccess, true};
const ContractParam kCooperative = {"Cooperative", MakeRealBackend, CooperativeAccess, false};
const std::vector<ContractParam> kBoth = {kDirect, kCooperative};

INSTANTIATE_CONTRACT(RealKvm, AnyKernel, kBoth);
INSTANTIATE_CONTRACT(RealKvm, KeepingKernel, kBoth);
INSTANTIATE_CONTRACT(RealKvm, ProtectedKernel, kBoth);
INSTANTIATE_CONTRACT(RealKvm, ScalingKernel, kBoth);
INSTANTIATE_CONTRACT(RealKvm, MasterClockKernel, kBoth);
INSTANTIATE_CONTRACT(RealKvm, DirectAccessOnly, std::vector<ContractParam>{kDirect});
INSTANTIATE_CONTRACT(RealKvm, PortAccessOnly, std::vector<ContractParam>{kCooperative});

bool Has(const std::string& what, const HostTraits& traits) {
  if (what == "kvm") return true;
  if (what == "kept") return !traits.tsc_protected;
  if (what == "scaling") return traits.tsc_control;
  if (what == "debugfs") return HasDebugfs();
  if (what == "masterclock") return traits.master_clock;
  return false;
}

// Prints what is missing; true if nothing is.
bool MeetsRequirements(const std::string& list) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = MakeRealBackend();
  bool good = true;
  for (const std::string& what :
       std::vector<std::string>(absl::StrSplit(list, ',', absl::SkipEmpty()))) {
    if (backend.ok() && Has(what, (*backend)->traits())) continue;
    fprintf(stderr, "contract_kvm: this machine lacks '%s', which --require asks for%s%s\n",
            what.c_str(), backend.ok() ? "" : ": ",
            backend.ok() ? "" : backend.status().ToString().c_str());
    good = false;
  }
  if (backend.ok()) {
    const HostTraits& traits = (*backend)->traits();
    printf(
        "KVM: %u kHz, %d fraction bits, scaling %d, TSC protected %d, master clock %d, debugfs "
        "%d\n",
        traits.host_khz, traits.frac_bits, traits.tsc_control, traits.tsc_protected,
        traits.master_clock, HasDebugfs());
  }
  return good;
}

}  // namespace
}  // namespace tsc_handoff::contract

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr char kRequire[] = "--require=";
  std::string required;
  for (int i = 1; i < argc; ++i) {
    if (strncmp(argv[i], kRequire, strlen(kRequire)) != 0) {
      fprintf(stderr, "contract_kvm: unknown argument %s\n", argv[i]);
      return 2;
    }
    required = argv[i] + strlen(kRequire);
  }
  if (!tsc_handoff::contract::MeetsRequirements(required)) return 1;
  return RUN_ALL_TESTS();
}
