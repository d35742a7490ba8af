// What a VMM may not pass off as its VM. With /dev/kvm also what it may; skipped where there is
// none.
#include "server/port/descriptor_check.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace tsc_handoff::port {
namespace {

using testing::HasSubstr;

std::string Refusal(const UniqueFd& vm, const std::vector<uint32_t>& ids,
                    const std::vector<UniqueFd>& vcpus) {
  return std::string(KvmDescriptorCheck().Check(vm, ids, vcpus).message());
}

std::vector<UniqueFd> One(int fd) {
  std::vector<UniqueFd> fds;
  fds.emplace_back(fd);
  return fds;
}

UniqueFd Null() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

TEST(KvmDescriptorCheck, RefusesWhatIsNoVm) {
  EXPECT_THAT(Refusal(Null(), {0}, One(dup(Null().get()))),
              HasSubstr("\"/dev/null\", not a KVM VM"));
  // A file may have any name, but not that of an anonymous inode.
  const UniqueFd forged(memfd_create("anon_inode:kvm-vm", MFD_CLOEXEC));
  EXPECT_THAT(Refusal(forged, {0}, {}), HasSubstr("not a KVM VM"));
  EXPECT_THAT(Refusal(UniqueFd(), {0}, {}), HasSubstr("not a KVM VM"));
}

class WithKvm : public testing::Test {
 protected:
  void SetUp() override {
    kvm_ = UniqueFd(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm_.valid()) GTEST_SKIP() << "/dev/kvm: " << strerror(errno);
    vm_ = MakeVm();
    if (!vm_.valid()) GTEST_SKIP() << "KVM_CREATE_VM: " << strerror(errno);
  }

  UniqueFd MakeVm() const { return UniqueFd(ioctl(kvm_.get(), KVM_CREATE_VM, 0)); }

  // The vCPUs of `vm` with these ids; the test is skipped where KVM does not make them.
  static std::vector<UniqueFd> MakeVcpus(const UniqueFd& vm, const std::vector<uint32_t>& ids) {
    std::vector<UniqueFd> vcpus;
    for (uint32_t id : ids) {
      vcpus.emplace_back(ioctl(vm.get(), KVM_CREATE_VCPU, id));
      EXPECT_TRUE(vcpus.back().valid()) << "KVM_CREATE_VCPU " << id << ": " << strerror(errno);
    }
    return vcpus;
  }

  UniqueFd kvm_;
  UniqueFd vm_;
};

TEST_F(WithKvm, AcceptsAVmWithItsVcpus) {
  const std::vector<uint32_t> ids = {0, 1, 5};
  EXPECT_EQ(Refusal(vm_, ids, MakeVcpus(vm_, ids)), "");
}

TEST_F(WithKvm, RefusesAWrongKindOfDescriptor) {
  EXPECT_THAT(Refusal(kvm_, {0}, MakeVcpus(vm_, {0})), HasSubstr("not a KVM VM"));
  EXPECT_THAT(Refusal(vm_, {0}, One(dup(vm_.get()))), HasSubstr("vCPU 0"));
  EXPECT_THAT(Refusal(vm_, {0}, One(dup(Null().get()))), HasSubstr("vCPU 0"));
}

TEST_F(WithKvm, RefusesAVcpuUnderAnotherId) {
  EXPECT_THAT(Refusal(vm_, {1}, MakeVcpus(vm_, {10})), HasSubstr("not \"anon_inode:kvm-vcpu:1\""));
}

TEST_F(WithKvm, RefusesVcpusOfTwoVms) {
  const UniqueFd other = MakeVm();
  std::vector<UniqueFd> vcpus = MakeVcpus(vm_, {0});
  vcpus.push_back(std::move(MakeVcpus(other, {1}).front()));
  EXPECT_THAT(Refusal(vm_, {0, 1}, vcpus), HasSubstr("do not belong to one VM"));
}

}  // namespace
}  // namespace tsc_handoff::port
