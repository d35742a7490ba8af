// What the payload promises: it runs wherever it is copied to, and it leaves alone what nobody
// saves for it.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "server/attach/embedded_code.h"
#include "server/attach/job.h"
#include "server/attach/stub_layout.h"
#include "server/attach/testing/call_job.h"

namespace tsc_handoff::attach {
namespace {

constexpr size_t kRoom = 64 * 1024;

class PayloadTest : public testing::TestWithParam<uintptr_t> {
 protected:
  PayloadTest()
      : code_(mmap(reinterpret_cast<void*>(GetParam()), kRoom, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    std::memcpy(code_, Payload().data(), Payload().size());
    mprotect(code_, kRoom, PROT_READ | PROT_EXEC);
  }
  ~PayloadTest() override { munmap(code_, kRoom); }
  void Run(std::vector<std::byte>& job) { reinterpret_cast<void (*)(void*)>(code_)(job.data()); }

  void* const code_;
};

// Below and above 4 GiB.
INSTANTIATE_TEST_SUITE_P(Addresses, PayloadTest, testing::Values(0x20000000, 0x123456789000));

TEST_P(PayloadTest, RunsCalls) {
  std::vector<std::byte> job =
      CallJob({{.number = SYS_getpid, .args = {}, .relative = 0, .result = 0},
               {.number = SYS_close, .args = {9999}, .relative = 0, .result = 0}});
  Run(job);
  EXPECT_EQ(ResultOf(job, 0), getpid());
  EXPECT_EQ(ResultOf(job, 1), -EBADF);
  EXPECT_EQ(HeadOf(job).done, 1u);
}

TEST_P(PayloadTest, RunsTheAlgorithm) {
  attach_kvm_job job = {};
  job.head.kind = ATTACH_JOB_CAPTURE;
  job.head.count = 1;
  const tsc_kvm_vcpu vcpu = {3, -1};
  std::vector<std::byte> bytes(sizeof(job) + sizeof(vcpu) + 2 * sizeof(tsc_vcpu_state));
  std::memcpy(bytes.data(), &job, sizeof(job));
  std::memcpy(bytes.data() + sizeof(job), &vcpu, sizeof(vcpu));
  Run(bytes);
  std::memcpy(&job, bytes.data(), sizeof(job));
  EXPECT_EQ(job.fault.outcome, static_cast<uint32_t>(TSC_KVM_FAILED));
  EXPECT_EQ(job.fault.step, static_cast<uint32_t>(TSC_STEP_READ_OFFSET));
  EXPECT_EQ(job.fault.vcpu_id, 3u);
  EXPECT_EQ(job.fault.error, EBADF);
  EXPECT_EQ(job.head.done, 1u);
}

// The linker script refuses relocations and data; this is about registers.
TEST(Payload, UsesNoVectorRegisterAndNoThreadLocalStorage) {
  std::ifstream file("server/attach/payload.lst");
  ASSERT_TRUE(file) << "the listing is not among the test's data";
  std::stringstream text;
  text << file.rdbuf();
  for (const char* forbidden : {"%xmm", "%ymm", "%zmm", "%mm", "%st", "%fs", "%gs"}) {
    EXPECT_EQ(text.str().find(forbidden), std::string::npos) << forbidden;
  }
  EXPECT_NE(text.str().find("syscall"), std::string::npos) << "not a listing of the payload";
}

TEST(Stub, BeginsWithItsHeader) {
  StubHeader header;
  ASSERT_GT(Stub().size(), sizeof(header));
  std::memcpy(&header, Stub().data(), sizeof(header));
  EXPECT_EQ(std::string(header.magic, sizeof(header.magic)), "TSCSTUB1");
  EXPECT_EQ(header.entry_offset, sizeof(header));
  EXPECT_LT(header.entry_offset, header.mapped_offset);
  EXPECT_LT(header.mapped_offset, header.ran_offset);
  EXPECT_LT(header.ran_offset, header.unmapped_offset);
  EXPECT_LT(header.unmapped_offset, Stub().size());
  EXPECT_LT(Stub().size(), 1024u);
}

}  // namespace
}  // namespace tsc_handoff::attach
