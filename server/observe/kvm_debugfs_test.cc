// The reader on a made-up debugfs.
#include "server/observe/kvm_debugfs.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace tsc_handoff::observe {
namespace {

namespace fs = std::filesystem;

class KvmDebugfsTest : public testing::Test {
 protected:
  KvmDebugfsTest() {
    char name[] = "/tmp/observe_XXXXXX";
    root_ = mkdtemp(name);
  }
  ~KvmDebugfsTest() override { fs::remove_all(root_); }
  void Write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file, std::ios::binary) << text;
  }

  fs::path root_;
};

TEST_F(KvmDebugfsTest, ReadsEveryVcpuOfEveryVm) {
  Write("70-10/vcpu10/tsc-offset", "-5\n");
  Write("70-10/vcpu2/tsc-offset", "7\n");
  Write("70-10/halt_exits", "3\n");
  Write("71-9/vcpu0/tsc-offset", "1\n");
  Write("71-9/vcpu0/tsc-scaling-ratio", "140737488355328\n");
  Write("71-9/vcpu0/tsc-scaling-ratio-frac-bits", "48\n");
  Write("exits", "1\n");
  const HostView view = ReadHostView(root_);
  ASSERT_EQ(view.size(), 2u);
  const VmView& first = view.at({70, 10});
  EXPECT_TRUE(first.steady);
  ASSERT_EQ(first.vcpus.size(), 2u);
  EXPECT_EQ(first.vcpus[0], (VcpuView{2, 7, {}, {}}));
  EXPECT_EQ(first.vcpus[1], (VcpuView{10, ~uint64_t{4}, {}, {}}));
  EXPECT_EQ(PhaseSpreadTicks(first), 12u);
  EXPECT_EQ(view.at({71, 9}).vcpus[0], (VcpuView{0, 1, uint64_t{1} << 47, 48}));
}

TEST_F(KvmDebugfsTest, LeavesOutWhatCannotBeRead) {
  Write("70-10/vcpu0/tsc-offset", "garbage\n");
  Write("70-10/vcpu1/tsc-offset", "12");
  Write("70-10/vcpu2/other", "12\n");
  fs::create_directories(root_ / "70-10/vcpu3/tsc-offset");
  fs::create_symlink("gone", root_ / "70-10/vcpu4");
  fs::create_directories(root_ / "70-11");
  Write("70-12/vcpu0/tsc-offset", "3\n");
  Write("70-12/vcpu0/tsc-scaling-ratio", "x\n");
  Write("70-12/vcpu0/tsc-scaling-ratio-frac-bits", "64\n");
  const HostView view = ReadHostView(root_);
  ASSERT_EQ(view.size(), 1u);
  EXPECT_EQ(view.at({70, 12}).vcpus, (std::vector<VcpuView>{{0, 3, {}, {}}}));
}

TEST_F(KvmDebugfsTest, WithoutDebugfsThereIsNothing) {
  EXPECT_TRUE(ReadHostView(root_ / "missing").empty());
}

}  // namespace
}  // namespace tsc_handoff::observe
