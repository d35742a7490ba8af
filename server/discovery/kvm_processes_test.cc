// Discovery on a made-up /proc and debugfs.
#include "server/discovery/kvm_processes.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::discovery {
namespace {

namespace fs = std::filesystem;

constexpr char kStatTail[] = " S 1 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 3 0 ";

class FindVmsTest : public testing::Test {
 protected:
  FindVmsTest() {
    char name[] = "/tmp/discovery_XXXXXX";
    root_ = mkdtemp(name);
    roots_ = {root_ / "proc", root_ / "kvm"};
    fs::create_directories(root_ / "proc/sys");
    fs::create_directories(root_ / "proc/self-not");
  }
  ~FindVmsTest() override { fs::remove_all(root_); }

  void Process(int pid, const std::string& cmdline,
               const std::vector<std::pair<int, std::string>>& links,
               const std::string& comm = "qemu") {
    const fs::path directory = root_ / "proc" / std::to_string(pid);
    fs::create_directories(directory / "fd");
    Write(directory / "stat", std::to_string(pid) + " (" + comm + ")" + kStatTail +
                                  std::to_string(1000 + pid) + " 9 9\n");
    Write(directory / "cmdline", cmdline);
    Write(directory / "status",
          "Name:\t" + comm + "\nTgid:\t" + std::to_string(pid) + "\nUid:\t1 64055 3 4\n");
    fs::create_symlink("/usr/bin/" + comm, directory / "exe");
    for (const auto& [fd, link] : links)
      fs::create_symlink(link, directory / "fd" / std::to_string(fd));
  }
  void Write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  void Debugfs(const std::string& vm, const std::vector<std::string>& entries) {
    for (const std::string& entry : entries) fs::create_directories(root_ / "kvm" / vm / entry);
  }
  std::vector<FoundVm> Find() {
    auto rule = VmIdRule::Create("");
    return FindVms(roots_, *rule);
  }

  fs::path root_;
  Roots roots_;
};

std::string Cmdline(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += word + '\0';
  return out;
}

TEST_F(FindVmsTest, FindsAStockQemu) {
  Process(1, Cmdline({"init"}), {{0, "/dev/null"}}, "init");
  Process(70, Cmdline({"qemu", "-name", "guest=web1,debug-threads=on"}),
          {{0, "/dev/null"},
           {9, "anon_inode:[eventfd]"},
           {10, "anon_inode:kvm-vm"},
           {12, "anon_inode:kvm-vcpu:1"},
           {11, "anon_inode:kvm-vcpu:0"},
           {13, "anon_inode:kvm-vcpu-stats:0"},
           {8, "/dev/kvm"}});
  const auto vms = Find();
  ASSERT_EQ(vms.size(), 1u);
  EXPECT_EQ(vms[0].pid, 70);
  EXPECT_EQ(vms[0].start_time_ticks, 1070u);
  EXPECT_EQ(vms[0].vm_id, "web1");
  EXPECT_EQ(vms[0].executable, "/usr/bin/qemu");
  EXPECT_EQ(vms[0].uid, 64055u);
  EXPECT_EQ(vms[0].descriptors.vm_fd, 10);
  EXPECT_EQ(vms[0].descriptors.vcpus, (std::vector<VcpuDescriptor>{{0, 11}, {1, 12}}));
}

TEST_F(FindVmsTest, AProcessWithoutANameHasNoVmId) {
  Process(70, "", {{10, "anon_inode:kvm-vm"}});
  const auto vms = Find();
  ASSERT_EQ(vms.size(), 1u);
  EXPECT_EQ(vms[0].vm_id, "");
}

TEST_F(FindVmsTest, SeveralVmsInOneProcessHaveIdsOfTheirOwn) {
  Process(70, Cmdline({"vmm", "-name", "many"}),
          {{10, "anon_inode:kvm-vm"},
           {20, "anon_inode:kvm-vm"},
           {11, "anon_inode:kvm-vcpu:0"},
           {21, "anon_inode:kvm-vcpu:3"}});
  Debugfs("70-10", {"vcpu0", "vcpux", "other"});
  Debugfs("70-20", {"vcpu3"});
  Debugfs("71-10", {"vcpu3"});  // another process's
  Debugfs("70", {"vcpu0"});
  const auto vms = Find();
  ASSERT_EQ(vms.size(), 2u);
  EXPECT_EQ(vms[0].vm_id, "many:10");
  EXPECT_EQ(vms[1].vm_id, "many:20");
  EXPECT_EQ(vms[0].descriptors.vcpus, (std::vector<VcpuDescriptor>{{0, 11}}));
  EXPECT_EQ(vms[1].descriptors.vcpus, (std::vector<VcpuDescriptor>{{3, 21}}));
}

TEST_F(FindVmsTest, WithoutDebugfsSeveralVmsAreUndecided) {
  Process(70, "",
          {{10, "anon_inode:kvm-vm"}, {20, "anon_inode:kvm-vm"}, {11, "anon_inode:kvm-vcpu:0"}});
  const auto vms = Find();
  ASSERT_EQ(vms.size(), 2u);
  for (const FoundVm& vm : vms) EXPECT_NE(vm.descriptors.undecided, "");
}

TEST_F(FindVmsTest, WhatHasEndedOrIsUnreadableIsLeftOut) {
  fs::create_directories(root_ / "proc/80");     // no files at all
  fs::create_directories(root_ / "proc/81/fd");  // no stat
  fs::create_symlink("anon_inode:kvm-vm", root_ / "proc/81/fd/3");
  Process(82, "", {{3, "anon_inode:kvm-vm"}});
  Write(root_ / "proc/82/stat", "82 (cut of");
  EXPECT_TRUE(Find().empty());
}

TEST_F(FindVmsTest, SaysWhoActsWhatItExecutesAndInWhichCgroup) {
  Process(70, "", {{3, "anon_inode:kvm-vm"}}, "qemu (deleted)");
  Process(71, "", {{3, "anon_inode:kvm-vm"}});
  Write(root_ / "proc/70/cgroup",
        "12:cpuset:/x\n1:name=systemd:/old\n0::/machine.slice/vm.scope\n");
  Write(root_ / "proc/71/cgroup", "12:cpuset:/x\n1:name=systemd:/machine/vm\n");
  const auto vms = Find();
  ASSERT_EQ(vms.size(), 2u);
  EXPECT_EQ(vms[0].executable, "/usr/bin/qemu") << "it was replaced, by a newer one perhaps";
  EXPECT_EQ(vms[0].cgroup, "/machine.slice/vm.scope");
  EXPECT_EQ(vms[1].cgroup, "/machine/vm");
}

TEST_F(FindVmsTest, DebugfsTellsWhoseVmsThereAre) {
  Process(70, "", {{3, "anon_inode:kvm-vm"}});
  Process(80, "", {{3, "anon_inode:kvm-vm"}});
  EXPECT_EQ(ProcessesInDebugfs(roots_), std::nullopt) << "not mounted";
  Debugfs("80-3", {"vcpu0"});
  Debugfs("71-3", {"vcpu0"});
  Debugfs("71-4", {"vcpu0"});
  EXPECT_EQ(ProcessesInDebugfs(roots_), std::nullopt) << "the thread that made it has ended";
  fs::create_directories(root_ / "proc/71");
  Write(root_ / "proc/71/status", "Tgid:\t70\n");
  EXPECT_EQ(ProcessesInDebugfs(roots_), (std::vector<pid_t>{70, 80}));
}

TEST_F(FindVmsTest, AVmMayHaveBeenMadeByAnyThread) {
  Process(70, "",
          {{10, "anon_inode:kvm-vm"},
           {20, "anon_inode:kvm-vm"},
           {11, "anon_inode:kvm-vcpu:0"},
           {21, "anon_inode:kvm-vcpu:3"}});
  fs::create_directories(root_ / "proc/75");
  Write(root_ / "proc/75/status", "Tgid:\t70\n");
  Debugfs("70-10", {"vcpu0"});
  Debugfs("75-20", {"vcpu3"});
  const auto vms = Find();
  ASSERT_EQ(vms.size(), 2u);
  EXPECT_EQ(vms[1].descriptors.vcpus, (std::vector<VcpuDescriptor>{{3, 21}}));
}

TEST_F(FindVmsTest, WithoutProcThereIsNothing) {
  roots_.proc = (root_ / "missing").string();
  EXPECT_TRUE(Find().empty());
}

TEST(ParseDescriptor, Rows) {
  using Kind = KvmDescriptor::Kind;
  struct Row {
    const char* link;
    Kind kind;
    uint32_t id;
  };
  const Row rows[] = {
      {"anon_inode:kvm-vm", Kind::kVm, 0},
      {"anon_inode:kvm-vcpu:0", Kind::kVcpu, 0},
      {"anon_inode:kvm-vcpu:4095", Kind::kVcpu, 4095},
      {"anon_inode:kvm-vcpu:", Kind::kOther, 0},
      {"anon_inode:kvm-vcpu:x", Kind::kOther, 0},
      {"anon_inode:kvm-vcpu:-1", Kind::kOther, 0},
      {"anon_inode:kvm-vm2", Kind::kOther, 0},
      {"anon_inode:kvm-vcpu-stats:0", Kind::kOther, 0},
      {"/tmp/anon_inode:kvm-vm", Kind::kOther, 0},
      {"", Kind::kOther, 0},
  };
  for (const Row& row : rows) {
    const KvmDescriptor parsed = ParseDescriptor(row.link);
    EXPECT_EQ(parsed.kind, row.kind) << row.link;
    EXPECT_TRUE(row.kind != Kind::kVcpu || parsed.vcpu_id == row.id) << row.link;
  }
}

TEST(ParseStartTime, Rows) {
  EXPECT_EQ(ParseStartTime(std::string("70 (qemu)") + kStatTail + "4711 1 2 3"), 4711u);
  EXPECT_EQ(ParseStartTime(std::string("70 (a) b (c) 1 2)") + kStatTail + "4711 1 2 3"), 4711u);
  for (const char* text : {"", "70", "70 (qemu) S 1 1",
                           "70 (qemu S 1 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 3 0 4711"}) {
    EXPECT_EQ(ParseStartTime(text), std::nullopt) << text;
  }
  EXPECT_EQ(ParseStartTime(std::string("70 (qemu)") + kStatTail + "x 1 2 3"), std::nullopt);
}

}  // namespace
}  // namespace tsc_handoff::discovery
