// What the contract suite (tests/contract) does not ask of a simulated host: the ways to make it
// misbehave, and the corners of KVM that capture and apply do not reach.

#include "tests/sim/sim_host.h"

#include <errno.h>
#include <fcntl.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::sim {
namespace {

constexpr int kPatienceMs = 20'000;

struct OneMsr {
  uint32_t nmsrs = 1;
  uint32_t pad = 0;
  kvm_msr_entry entry = {};
};

struct TwoMsrs {
  uint32_t nmsrs = 2;
  uint32_t pad = 0;
  kvm_msr_entry entries[2] = {};
};

class SimHostTest : public testing::Test {
 protected:
  void Make(SimHostOptions options, const SimVmOptions& vm = {.vcpu_ids = {0, 3}}) {
    host_ = std::make_unique<SimHost>(time_, options);
    vm_ = host_->CreateVm(vm);
  }
  int Call(int fd, unsigned long request, void* arg = nullptr, int process = 0) {
    const tsc_kvm_ops* ops = host_->OpsFor(process);
    return ops->ioctl(ops->ctx, fd, request, arg);
  }
  int Offset(unsigned long request, size_t i, uint64_t* value) {
    kvm_device_attr attr = {0, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
                            reinterpret_cast<uintptr_t>(value)};
    return Call(vm_.vcpus[i].fd, request, &attr);
  }
  int SetKhz(size_t i, uint32_t khz) {
    return Call(vm_.vcpus[i].fd, KVM_SET_TSC_KHZ, reinterpret_cast<void*>(uintptr_t{khz}));
  }
  int WriteMsr(size_t i, uint32_t index, uint64_t value) {
    OneMsr msr;
    msr.entry.index = index;
    msr.entry.data = value;
    return Call(vm_.vcpus[i].fd, KVM_SET_MSRS, &msr);
  }
  uint64_t ReadMsr(size_t i, uint32_t index) {
    OneMsr msr;
    msr.entry.index = index;
    EXPECT_EQ(Call(vm_.vcpus[i].fd, KVM_GET_MSRS, &msr), 1);
    return msr.entry.data;
  }

  const std::shared_ptr<SimTime> time_ = std::make_shared<SimTime>();
  std::unique_ptr<SimHost> host_;
  SimVm vm_;
};

TEST_F(SimHostTest, NewVcpusStartAtZeroWithOneOffset) {
  time_->Advance(5'000'000'000);
  Make({});
  EXPECT_EQ(host_->GuestTsc(vm_.vcpus[0].fd), 0u);
  EXPECT_EQ(host_->Offset(vm_.vcpus[0].fd), host_->Offset(vm_.vcpus[1].fd));
}

TEST_F(SimHostTest, TscRunsAtItsFrequencyAndWrongByItsError) {
  SimHostOptions options = {
      .clock = {.tsc_khz = 3'000'000, .tsc_rate_error_ppb = 50'000, .tsc_start_ticks = 7}};
  Make(options);
  time_->Advance(1'000'000'000);
  EXPECT_EQ(host_->clock().PeekTsc(), 7u + 3'000'150'000u);
}

TEST_F(SimHostTest, RealtimeHasItsErrorAndTaiItsOffset) {
  Make({.clock = {.realtime_start_ns = 1000,
                  .realtime_error_ns = 30,
                  .realtime_rate_error_ppb = 1'000'000}});
  time_->Advance(1'000'000);
  EXPECT_EQ(host_->clock().ReadRealtimeNs(), 1000 + 30 + 1'000'000 + 1000);
  host_->clock().SetRealtimeErrorNs(-5);
  host_->clock().SetTaiOffsetS(2);
  EXPECT_EQ(host_->clock().ReadTaiNs(), 1000 - 5 + 1'001'000 + 2'000'000'000);
}

TEST_F(SimHostTest, ReadsTakeAsLongAsWasInjected) {
  Make({});
  HostClock& clock = host_->clock();
  clock.DelayRead(2, 1000);
  int64_t start_ns = time_->NowNs();
  clock.ReadTsc();
  EXPECT_EQ(time_->NowNs(), start_ns);
  clock.ReadRealtimeNs();
  EXPECT_EQ(time_->NowNs(), start_ns + 1000);
  clock.DelayEachRead(10);
  clock.ReadTsc();
  clock.ReadTsc();
  EXPECT_EQ(time_->NowNs(), start_ns + 1020);
}

TEST_F(SimHostTest, LiveTimeFollowsTheMachine) {
  SimTime live(SimTime::Mode::kLive);
  int64_t before = live.NowNs();
  live.Advance(1'000'000'000);
  EXPECT_GE(live.NowNs(), before + 1'000'000'000);
}

TEST_F(SimHostTest, WrongDescriptorsRequestsAndProcessesGetKvmsErrors) {
  Make({});
  SimHost other(time_);
  EXPECT_EQ(Call(-1, KVM_GET_TSC_KHZ), -EBADF);
  EXPECT_EQ(Call(other.CreateVm({}).vm_fd, KVM_GET_CLOCK), -EBADF);
  EXPECT_EQ(Call(vm_.vm_fd, KVM_GET_TSC_KHZ), -ENOTTY);
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_CLOCK), -EINVAL);
  kvm_clock_data data;
  EXPECT_EQ(Call(vm_.vm_fd, KVM_GET_CLOCK, &data, 9), -EIO);
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ, nullptr, 9), -EIO);
  host_->SetOwner(vm_, 9);
  EXPECT_GT(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ, nullptr, 9), 0);
  kvm_device_attr unknown = {0, KVM_VCPU_TSC_CTRL, 77, 0};
  host_->SetOwner(vm_, 0);
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_DEVICE_ATTR, &unknown), -ENXIO);
  host_->DestroyVm(vm_);
  EXPECT_EQ(Call(vm_.vm_fd, KVM_GET_CLOCK, &data), -EBADF);
}

TEST_F(SimHostTest, MsrsStopAtTheFirstUnknownOne) {
  Make({});
  TwoMsrs msrs;
  msrs.entries[0].index = kMsrTscAdjust;
  msrs.entries[1].index = 0x12345;
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_MSRS, &msrs), 1);
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_SET_MSRS, &msrs), 1);
}

TEST_F(SimHostTest, ExtensionsTellOfTheTraits) {
  Make({.kvm = {.tsc_control = false}});
  auto extension = [this](uintptr_t which) {
    return Call(vm_.vm_fd, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(which));
  };
  EXPECT_EQ(extension(KVM_CAP_TSC_CONTROL), 0);
  EXPECT_EQ(extension(KVM_CAP_VCPU_ATTRIBUTES), 1);
  EXPECT_EQ(extension(KVM_CAP_ADJUST_CLOCK), 0xe);
  EXPECT_EQ(extension(KVM_CAP_NR_MEMSLOTS), 0);
}

TEST_F(SimHostTest, RefusedFrequencyIsRememberedAllTheSame) {
  Make({.clock = {.tsc_khz = 2'000'000}, .kvm = {.tsc_control = false}});
  EXPECT_EQ(SetKhz(0, 1'000'000), -EINVAL);
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ), 1'000'000);
  EXPECT_EQ(host_->Ratio(vm_.vcpus[0].fd), uint64_t{1} << 48);
  EXPECT_EQ(SetKhz(0, 0), 0) << "0 means the host's";
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ), 2'000'000);
}

TEST_F(SimHostTest, FrequencyAboveAnUnscaledHostsSucceedsAndCatchesUp) {
  Make({.clock = {.tsc_khz = 2'000'000}, .kvm = {.tsc_control = false}}, {.vcpu_ids = {0}});
  int fd = vm_.vcpus[0].fd;
  EXPECT_EQ(SetKhz(0, 3'000'000), 0);
  EXPECT_TRUE(host_->CatchUp(fd));
  time_->Advance(1'000'000);
  uint64_t slow = host_->GuestTsc(fd);
  host_->Run(fd);
  EXPECT_NEAR(static_cast<double>(host_->GuestTsc(fd)), static_cast<double>(slow) * 1.5, 10'000);
  EXPECT_EQ(SetKhz(0, 2'000'000), 0);
  EXPECT_TRUE(host_->CatchUp(fd)) << "KVM never leaves that mode";
}

TEST_F(SimHostTest, ScalingHasKvmsLimits) {
  Make({.clock = {.tsc_khz = 3'500'000}, .kvm = {.vendor = Vendor::kSvm, .tsc_control = true}});
  EXPECT_EQ(SetKhz(0, 1'750'001), 0);
  EXPECT_EQ(host_->Ratio(vm_.vcpus[0].fd), (uint64_t{1'750'001} << 32) / 3'500'000);
  EXPECT_EQ(SetKhz(0, 0x7fffffff), -EINVAL);
  EXPECT_EQ(SetKhz(0, 3'500'000 - 875), 0) << "250 ppm below is not scaled";
  EXPECT_EQ(host_->Ratio(vm_.vcpus[0].fd), uint64_t{1} << 32);
  EXPECT_EQ(SetKhz(0, 3'500'000 - 876), 0);
  EXPECT_NE(host_->Ratio(vm_.vcpus[0].fd), uint64_t{1} << 32);
  EXPECT_FALSE(ScalingRatio(Vendor::kSvm, 1000, 256'000).has_value()) << "8 integer bits";
  EXPECT_TRUE(ScalingRatio(Vendor::kVmx, 1000, 256'000).has_value());
}

TEST_F(SimHostTest, GuestTscIsScaledHostTscPlusOffset) {
  Make({.clock = {.tsc_khz = 2'100'000, .tsc_start_ticks = 1'000'003}, .ioctl_ns = 0});
  ASSERT_EQ(SetKhz(0, 700'000), 0);
  uint64_t offset = uint64_t{0} - 5;
  ASSERT_EQ(Offset(KVM_SET_DEVICE_ATTR, 0, &offset), 0);
  auto ratio = static_cast<uint64_t>((static_cast<unsigned __int128>(700'000) << 48) / 2'100'000);
  uint64_t scaled =
      static_cast<uint64_t>((static_cast<unsigned __int128>(1'000'003) * ratio) >> 48);
  EXPECT_EQ(host_->GuestTsc(vm_.vcpus[0].fd), scaled - 5);
  EXPECT_EQ(ReadMsr(0, kMsrTsc), scaled - 5);
}

TEST_F(SimHostTest, TscMsrNearTheExpectedValueIsTakenForSynchronising) {
  Make({});
  uint64_t base = uint64_t{1} << 50;
  ASSERT_EQ(WriteMsr(0, kMsrTsc, base), 1);
  time_->Advance(400'000'000);
  // 0.4 s later, another value than the first vCPU's TSC has: within a second it counts as the
  // same.
  ASSERT_EQ(WriteMsr(1, kMsrTsc, base + 12345), 1);
  EXPECT_EQ(host_->Offset(vm_.vcpus[0].fd), host_->Offset(vm_.vcpus[1].fd));
  ASSERT_EQ(WriteMsr(1, kMsrTsc, base + (uint64_t{1} << 40)), 1);
  EXPECT_NE(host_->Offset(vm_.vcpus[0].fd), host_->Offset(vm_.vcpus[1].fd));
}

TEST_F(SimHostTest, AdjustWithoutItsCpuidBitIsDropped) {
  Make({}, {.vcpu_ids = {0}, .vcpu = {.cpuid_tsc_adjust = false}});
  EXPECT_EQ(WriteMsr(0, kMsrTscAdjust, 5), 1);
  EXPECT_EQ(ReadMsr(0, kMsrTscAdjust), 0u);
}

TEST_F(SimHostTest, DeadlineIsDeliveredWhenTheVcpuRuns) {
  Make({}, {.vcpu_ids = {0}});
  uint64_t deadline = host_->GuestTsc(vm_.vcpus[0].fd) + 2'100'000 * 10;
  ASSERT_EQ(WriteMsr(0, kMsrTscDeadline, deadline), 1);
  host_->Run(vm_.vcpus[0].fd);
  EXPECT_EQ(ReadMsr(0, kMsrTscDeadline), deadline);
  time_->Advance(20'000'000);
  EXPECT_EQ(ReadMsr(0, kMsrTscDeadline), deadline);
  host_->Run(vm_.vcpus[0].fd);
  EXPECT_EQ(ReadMsr(0, kMsrTscDeadline), 0u);
}

TEST_F(SimHostTest, RestoringOneVcpuDoesNotBringTheMasterClockBack) {
  Make({});
  host_->RunAll(vm_);
  ASSERT_TRUE(host_->MasterClock(vm_.vm_fd));
  uint64_t old_offset = host_->Offset(vm_.vcpus[0].fd);
  uint64_t other = old_offset + 1;
  ASSERT_EQ(Offset(KVM_SET_DEVICE_ATTR, 0, &other), 0);
  EXPECT_TRUE(host_->MasterClock(vm_.vm_fd)) << "KVM notices when a vCPU runs";
  host_->RunAll(vm_);
  EXPECT_FALSE(host_->MasterClock(vm_.vm_fd));
  ASSERT_EQ(Offset(KVM_SET_DEVICE_ATTR, 0, &old_offset), 0);
  host_->RunAll(vm_);
  EXPECT_FALSE(host_->MasterClock(vm_.vm_fd));
  ASSERT_EQ(Offset(KVM_SET_DEVICE_ATTR, 1, &old_offset), 0);
  host_->RunAll(vm_);
  EXPECT_TRUE(host_->MasterClock(vm_.vm_fd));
}

TEST_F(SimHostTest, SetClockWithRealtimeAddsWhatHasPassed) {
  Make({.ioctl_ns = 0});
  kvm_clock_data data = {};
  data.clock = 1000;
  data.flags = KVM_CLOCK_REALTIME;
  data.realtime = static_cast<uint64_t>(host_->clock().PeekRealtimeNs()) - 500;
  ASSERT_EQ(Call(vm_.vm_fd, KVM_SET_CLOCK, &data), 0);
  EXPECT_EQ(host_->KvmclockNs(vm_.vm_fd), 1500u);
  data.realtime += 10'000;  // in the future: kvmclock is not stepped back
  ASSERT_EQ(Call(vm_.vm_fd, KVM_SET_CLOCK, &data), 0);
  EXPECT_EQ(host_->KvmclockNs(vm_.vm_fd), 1000u);
  data.flags = 1;
  EXPECT_EQ(Call(vm_.vm_fd, KVM_SET_CLOCK, &data), -EINVAL);
}

TEST_F(SimHostTest, FaultsHitTheCallsThatTheyName) {
  Make({});
  host_->Inject({.error = EPERM, .request = KVM_GET_TSC_KHZ, .vcpu_id = 3, .nth = 2});
  EXPECT_GT(Call(vm_.vcpus[1].fd, KVM_GET_TSC_KHZ), 0);
  EXPECT_GT(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ), 0);
  EXPECT_EQ(Call(vm_.vcpus[1].fd, KVM_GET_TSC_KHZ), -EPERM);
  EXPECT_GT(Call(vm_.vcpus[1].fd, KVM_GET_TSC_KHZ), 0);
  host_->Inject({.error = ENOMEM, .nth = 2, .always = true});
  EXPECT_GT(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ), 0);
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ), -ENOMEM);
  EXPECT_EQ(Call(vm_.vm_fd, KVM_CHECK_EXTENSION), -ENOMEM);
  host_->ClearFaults();
  EXPECT_GT(Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ), 0);
}

TEST_F(SimHostTest, DroppedAndShortCallsLookLikeSuccess) {
  Make({});
  uint64_t before = host_->Offset(vm_.vcpus[0].fd);
  uint64_t wanted = before + 1;
  host_->Inject({.kind = Fault::Kind::kDrop, .request = KVM_SET_DEVICE_ATTR});
  EXPECT_EQ(Offset(KVM_SET_DEVICE_ATTR, 0, &wanted), 0);
  EXPECT_EQ(host_->Offset(vm_.vcpus[0].fd), before);
  host_->Inject({.kind = Fault::Kind::kShort, .count = 1, .request = KVM_GET_MSRS});
  TwoMsrs msrs;
  msrs.entries[0].index = kMsrTscAdjust;
  msrs.entries[1].index = kMsrTscDeadline;
  EXPECT_EQ(Call(vm_.vcpus[0].fd, KVM_GET_MSRS, &msrs), 1);
}

TEST_F(SimHostTest, HookAndLogSeeEachCallInOrder) {
  Make({});
  std::atomic<int> hooked = 0;
  host_->SetHook([&](const SimCall& call) {
    if (call.request == KVM_GET_TSC_KHZ) host_->Inject({.error = EINTR});
    ++hooked;
  });
  EXPECT_EQ(Call(vm_.vcpus[1].fd, KVM_GET_TSC_KHZ), -EINTR) << "the hook comes before the call";
  host_->SetHook(nullptr);
  Call(vm_.vm_fd, KVM_CHECK_EXTENSION);
  EXPECT_EQ(hooked, 1);
  std::vector<SimCall> calls = host_->Calls();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0].request, KVM_GET_TSC_KHZ);
  EXPECT_EQ(calls[0].vcpu_id, 3u);
  EXPECT_EQ(calls[1].vcpu_id, SimCall::kNoVcpu);
  host_->ClearCalls();
  EXPECT_TRUE(host_->Calls().empty());
}

TEST_F(SimHostTest, OnlyTheBlockedVcpuBlocks) {
  Make({});
  host_->Block(vm_.vcpus[0].fd);
  std::atomic<bool> returned = false;
  std::thread caller([&] {
    Call(vm_.vcpus[0].fd, KVM_GET_TSC_KHZ);
    returned = true;
  });
  EXPECT_TRUE(host_->AwaitBlockedCalls(1, kPatienceMs));
  EXPECT_GT(Call(vm_.vcpus[1].fd, KVM_GET_TSC_KHZ), 0);
  EXPECT_FALSE(returned);
  host_->Unblock(vm_.vcpus[0].fd);
  caller.join();
  EXPECT_TRUE(returned);
}

TEST_F(SimHostTest, RealDescriptorsAreOpenUntilTheVmIsGone) {
  Make({.real_fds = true});
  EXPECT_NE(fcntl(vm_.vm_fd, F_GETFD), -1);
  EXPECT_NE(fcntl(vm_.vcpus[1].fd, F_GETFD), -1);
  EXPECT_GT(Call(vm_.vcpus[1].fd, KVM_GET_TSC_KHZ), 0);
  host_->DestroyVm(vm_);
  EXPECT_EQ(fcntl(vm_.vcpus[1].fd, F_GETFD), -1);
}

TEST_F(SimHostTest, ProtectedTscTakesOffsetsAndKeepsItsOwn) {
  Make({.kvm = {.tsc_protected = true}});
  uint64_t wanted = 12345;
  uint64_t found = 1;
  EXPECT_EQ(Offset(KVM_SET_DEVICE_ATTR, 0, &wanted), 0);
  EXPECT_EQ(Offset(KVM_GET_DEVICE_ATTR, 0, &found), 0);
  EXPECT_EQ(found, 0u);
}

}  // namespace
}  // namespace tsc_handoff::sim
