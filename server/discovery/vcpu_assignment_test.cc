#include "server/discovery/vcpu_assignment.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::discovery {
namespace {

using Vcpus = std::vector<VcpuDescriptor>;

TEST(AssignVcpus, TheOnlyVmHasThemAllInOrder) {
  for (const std::vector<DebugfsVm>& debugfs :
       {std::vector<DebugfsVm>{}, std::vector<DebugfsVm>{{10, {0, 1, 2}}},
        std::vector<DebugfsVm>{{99, {5}}}}) {
    const auto vms = AssignVcpus({10}, {{2, 13}, {0, 11}, {1, 30}}, debugfs);
    ASSERT_EQ(vms.size(), 1u);
    EXPECT_EQ(vms[0].vm_fd, 10);
    EXPECT_EQ(vms[0].vcpus, (Vcpus{{0, 11}, {1, 30}, {2, 13}}));
    EXPECT_EQ(vms[0].undecided, "");
  }
}

TEST(AssignVcpus, AVmMayHaveNoVcpusYet) {
  const auto vms = AssignVcpus({10}, {}, {});
  ASSERT_EQ(vms.size(), 1u);
  EXPECT_TRUE(vms[0].vcpus.empty() && vms[0].undecided.empty());
}

TEST(AssignVcpus, WithoutAVmThereIsNothing) { EXPECT_TRUE(AssignVcpus({}, {{0, 11}}, {}).empty()); }

TEST(AssignVcpus, TwoDescriptorsOfOneVcpuAreUndecided) {
  const auto vms = AssignVcpus({10}, {{0, 11}, {0, 12}}, {});
  EXPECT_NE(vms[0].undecided.find("2 descriptors of vCPU 0"), std::string::npos)
      << vms[0].undecided;
  EXPECT_TRUE(vms[0].vcpus.empty());
}

TEST(AssignVcpus, SeveralVmsWithDifferentIdsAreToldByDebugfs) {
  const auto vms =
      AssignVcpus({20, 10}, {{4, 21}, {0, 11}, {1, 12}, {5, 22}}, {{10, {0, 1}}, {20, {5, 4}}});
  ASSERT_EQ(vms.size(), 2u);
  EXPECT_EQ(vms[0].vm_fd, 10);
  EXPECT_EQ(vms[0].vcpus, (Vcpus{{0, 11}, {1, 12}}));
  EXPECT_EQ(vms[1].vm_fd, 20);
  EXPECT_EQ(vms[1].vcpus, (Vcpus{{4, 21}, {5, 22}}));
}

struct UndecidedRow {
  const char* what;
  std::vector<DebugfsVm> debugfs;
  const char* because;
};

TEST(AssignVcpus, SeveralVmsAreUndecidedOtherwise) {
  const UndecidedRow rows[] = {
      {"no debugfs", {}, "debugfs does not say"},
      {"one that debugfs does not know", {{10, {0}}}, "debugfs does not say"},
      {"the same id twice", {{10, {0, 1}}, {20, {0}}}, "several VMs with a vCPU 0"},
      {"a vCPU without a descriptor", {{10, {7}}, {20, {8}}}, "0 descriptors of vCPU"},
  };
  for (const UndecidedRow& row : rows) {
    for (const VmDescriptors& vm : AssignVcpus({10, 20}, {{0, 11}, {1, 12}}, row.debugfs)) {
      EXPECT_NE(vm.undecided.find(row.because), std::string::npos)
          << row.what << ": " << vm.undecided;
      EXPECT_TRUE(vm.vcpus.empty()) << row.what;
    }
  }
}

}  // namespace
}  // namespace tsc_handoff::discovery
