#include "server/host/host_facts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace tsc_handoff::host {
namespace {

constexpr char kUuid[] = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n";
constexpr char kUuidBytes[] = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

// A host made of files; a healthy one, but without KVM.
class HostFactsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/host_facts.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    paths_.kvm = Path("kvm");
    paths_.clocksource = Write("clocksource", "tsc\n");
    paths_.cpuinfo = Write("cpuinfo", CpuInfo("fpu tsc constant_tsc svm"));
    paths_.boot_id = Write("boot_id", kUuid);
  }
  void TearDown() override {
    for (const char* file : {"kvm", "clocksource", "cpuinfo", "boot_id"})
      unlink(Path(file).c_str());
    rmdir(directory_.c_str());
  }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
    return Path(name);
  }

  static std::string CpuInfo(const std::string& flags) {
    const std::string cpu =
        "\nmodel name\t: Some CPU\nflags\t\t: " + flags + "\nbugs\t\t: none\n\n";
    return "processor\t: 0" + cpu + "processor\t: 1" + cpu;
  }

  HostFacts Read() const { return ReadHostFacts(paths_); }

  std::string directory_;
  HostPaths paths_;
};

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(HostFactsTest, AHealthyHostIsStable) {
  const HostFacts facts = Read();
  EXPECT_EQ(facts.tsc_unstable_reason, "");
  EXPECT_NE(facts.host_name, "");
  EXPECT_NE(facts.kernel_release, "");
  EXPECT_EQ(absl::BytesToHexString(facts.boot_id), kUuidBytes);
  EXPECT_FALSE(facts.simulated);
}

TEST_F(HostFactsTest, AnotherClocksourceIsUnstable) {
  Write("clocksource", "hpet\n");
  EXPECT_TRUE(Contains(Read().tsc_unstable_reason,
                       "clocksource is \"hpet\", not \"tsc\"; see the kernel log"));
  Write("clocksource", "tsc-early\n");
  EXPECT_TRUE(Contains(Read().tsc_unstable_reason, "\"tsc-early\""));
}

TEST_F(HostFactsTest, AnUnknownClocksourceIsUnstable) {
  paths_.clocksource = Path("missing");
  EXPECT_TRUE(Contains(Read().tsc_unstable_reason,
                       "cannot be read from " + Path("missing") + "; mount /sys"));
  paths_.clocksource = Write("clocksource", "");
  EXPECT_TRUE(Contains(Read().tsc_unstable_reason, "cannot be read"));
}

TEST_F(HostFactsTest, UnreadableCpuInfoIsUnstable) {
  paths_.cpuinfo = Path("missing");
  EXPECT_TRUE(
      Contains(Read().tsc_unstable_reason, "no CPU flags can be read from " + Path("missing")));
  paths_.cpuinfo = Write("cpuinfo", "no colon here\nmodel name : x\n");
  EXPECT_TRUE(Contains(Read().tsc_unstable_reason, "no CPU flags"));
}

TEST_F(HostFactsTest, ABootIdThatIsNoUuidIsLeftEmpty) {
  for (const char* text :
       {"", "\n", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1fg",
        "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f00",
        "0f1e2d3c-4b5a-6978-8796a-5b4c3d2e1f0"}) {
    paths_.boot_id = Write("boot_id", text);
    EXPECT_EQ(Read().boot_id, "") << text;
  }
  paths_.boot_id = Path("missing");
  EXPECT_EQ(Read().boot_id, "");
}

TEST_F(HostFactsTest, AMissingKvmSaysWhatToLoad) {
  const HostFacts facts = Read();
  EXPECT_TRUE(Contains(facts.kvm_unavailable_reason,
                       Path("kvm") + " cannot be opened: No such file or directory"));
  EXPECT_TRUE(Contains(facts.kvm_unavailable_reason, "load kvm_intel or kvm_amd"));
  EXPECT_EQ(facts.tsc.host_khz, 0u);
  EXPECT_FALSE(facts.tsc.can_scale);
}

TEST_F(HostFactsTest, AFileThatIsNotKvmIsNotTakenForIt) {
  Write("kvm", "");
  EXPECT_TRUE(Contains(Read().kvm_unavailable_reason, "is not KVM's device"));
  paths_.kvm = "/dev/null";
  EXPECT_EQ(Read().kvm_unavailable_reason, "/dev/null is not KVM's device; correct the path");
  paths_.kvm = directory_;
  EXPECT_TRUE(Contains(Read().kvm_unavailable_reason, "cannot be opened: Is a directory"));
}

TEST_F(HostFactsTest, AForbiddenKvmNamesTheGroup) {
  Write("kvm", "");
  ASSERT_EQ(chmod(Path("kvm").c_str(), 0), 0);
  // The rights of the directory must not be what refuses.
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  const uid_t user = geteuid();
  constexpr uid_t kNobody = 65534;
  if (user == 0 && seteuid(kNobody) != 0) {
    GTEST_SKIP() << "runs as root, whom no permission stops, and cannot become another user here";
  }
  const HostFacts facts = Read();
  ASSERT_EQ(seteuid(user), 0);
  EXPECT_TRUE(Contains(facts.kvm_unavailable_reason,
                       "Permission denied; put the agent's user into the group kvm"))
      << facts.kvm_unavailable_reason;
}

TEST(HostFactsSystemTest, ReadsThisMachine) {
  const auto start = std::chrono::steady_clock::now();
  const HostFacts facts = ReadHostFacts();
  const auto took = std::chrono::steady_clock::now() - start;
  std::cout << "host " << facts.host_name << ", Linux " << facts.kernel_release << "\nboot id "
            << absl::BytesToHexString(facts.boot_id) << "\nTSC " << facts.tsc.host_khz
            << " kHz, scaling " << facts.tsc.can_scale << ", fraction bits " << facts.tsc.frac_bits
            << "\nunstable because: " << facts.tsc_unstable_reason
            << "\nno KVM because: " << facts.kvm_unavailable_reason << "\ntook "
            << std::chrono::duration_cast<std::chrono::microseconds>(took).count() << " us\n";
  EXPECT_EQ(facts.boot_id.size(), 16u);
  EXPECT_EQ(facts.tsc.host_khz != 0, facts.kvm_unavailable_reason.empty());
  // It takes some milliseconds; the limit is wide because a test machine may be busy.
  EXPECT_LT(took, std::chrono::seconds(2));
}

TEST(HostFactsSystemTest, FindsKvmWhereItIs) {
  if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm that this user may open";
  const HostFacts facts = ReadHostFacts();
  if (!facts.kvm_unavailable_reason.empty()) GTEST_SKIP() << facts.kvm_unavailable_reason;
  EXPECT_GT(facts.tsc.host_khz, 100'000u);
  EXPECT_LT(facts.tsc.host_khz, 20'000'000u);
}

}  // namespace
}  // namespace tsc_handoff::host
