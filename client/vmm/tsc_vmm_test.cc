// The C library's face: what tsc_vmm_open refuses before it talks to anybody, and that the public
// header serves C and C++ alike. Sessions with an agent are tested in permit_test.cc,
// tests/contract and tests/service.
#include "client/vmm/tsc_vmm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "client/vmm/header_layout.h"
#include "client/vmm/tsc_wire.h"

extern "C" int default_config_is_complete_in_c(void);

namespace {

using testing::HasSubstr;

TEST(Header, GivesTheSameDefaultsInCAndCpp) {
  EXPECT_TRUE(default_config_is_complete_in_c());
  const tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  EXPECT_EQ(config.size, sizeof(config));
  EXPECT_EQ(config.vm_fd, -1);
}

class OpenVmm : public testing::Test {
 protected:
  OpenVmm() {
    config_.vm_id = "vm";
    config_.vm_fd = STDIN_FILENO;
    config_.vcpus = vcpus_.data();
    config_.vcpu_count = static_cast<uint32_t>(vcpus_.size());
    config_.agent_socket = "/nonexistent/vmm.sock";
  }

  // What tsc_vmm_open says; empty when it opens.
  std::string Open() {
    tsc_vmm* session = nullptr;
    char why[TSC_VMM_ERROR_SIZE] = "";
    if (tsc_vmm_open(&config_, &session, why) != 0) {
      EXPECT_EQ(session, nullptr);
      return why;
    }
    tsc_vmm_close(session);
    return "";
  }

  std::vector<tsc_kvm_vcpu> vcpus_ = {{4, 0}, {1, 0}};  // any order of ids
  tsc_vmm_config config_ = TSC_VMM_CONFIG_INIT;
};

TEST_F(OpenVmm, OpensWithoutAnAgent) { EXPECT_EQ(Open(), ""); }

TEST_F(OpenVmm, RefusesAConfigThatDidNotStartFromTheInitialiser) {
  config_.size = 0;
  EXPECT_THAT(Open(), HasSubstr("TSC_VMM_CONFIG_INIT"));
}

TEST_F(OpenVmm, RefusesBadIds) {
  const std::string longest(128, 'x');
  const std::string too_long(129, 'x');
  for (const char* id : {static_cast<const char*>(nullptr), "", "a b", "a/b", too_long.c_str()}) {
    config_.vm_id = id;
    EXPECT_THAT(Open(), HasSubstr("1 to 128 characters"));
  }
  config_.vm_id = longest.c_str();
  EXPECT_EQ(Open(), "");
}

TEST_F(OpenVmm, RefusesDescriptorsThatAreNone) {
  config_.vm_fd = -1;
  EXPECT_THAT(Open(), HasSubstr("KVM_CREATE_VM"));
  config_.vm_fd = 0;
  vcpus_[1].fd = -1;
  EXPECT_THAT(Open(), HasSubstr("vCPU 1"));
}

TEST_F(OpenVmm, RefusesVcpusThatCannotBe) {
  config_.vcpu_count = 0;
  EXPECT_THAT(Open(), HasSubstr("1 to 1024"));
  config_.vcpu_count = 1025;
  EXPECT_THAT(Open(), HasSubstr("1 to 1024"));
  config_.vcpu_count = 2;
  vcpus_[0].id = vcpus_[1].id;
  EXPECT_THAT(Open(), HasSubstr("there twice"));
  vcpus_[0].id = 4096;
  EXPECT_THAT(Open(), HasSubstr("at most 4095"));
  config_.vcpus = nullptr;
  EXPECT_THAT(Open(), HasSubstr("1 to 1024"));
}

TEST_F(OpenVmm, RefusesASocketPathThatIsTooLong) {
  const std::string path = "/tmp/" + std::string(103, 'x');
  config_.agent_socket = path.c_str();
  EXPECT_THAT(Open(), HasSubstr("107 bytes"));
}

TEST_F(OpenVmm, RefusesASocketThatIsNotOpen) {
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE] = "";
  EXPECT_EQ(tsc_vmm_open_socket(&config_, -1, &session, why), -1);
  EXPECT_THAT(why, HasSubstr("not open"));
}

TEST_F(OpenVmm, SaysWhyItIsNotRegistered) {
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE] = "";
  ASSERT_EQ(tsc_vmm_open(&config_, &session, why), 0) << why;
  EXPECT_EQ(tsc_vmm_wait_registered(session, 50, why), -1);
  EXPECT_THAT(why, HasSubstr("is tsc-agent running?"));
  tsc_vmm_close(session);
}

TEST_F(OpenVmm, DoesNotWaitForAConnectionThatDoesNotComeAgain) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE] = "";
  ASSERT_EQ(tsc_vmm_open_socket(&config_, ends[1], &session, why), 0) << why;
  close(ends[0]);
  constexpr int kAnHourMs = 3'600'000;  // the test's own limit would end it
  EXPECT_EQ(tsc_vmm_wait_registered(session, kAnHourMs, why), -1);
  EXPECT_THAT(why, HasSubstr("ended"));
  tsc_vmm_close(session);
}

TEST_F(OpenVmm, DoesNotRunBeforeAnAgentHasSaidThatItMay) {
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE] = "";
  ASSERT_EQ(tsc_vmm_open(&config_, &session, why), 0) << why;
  EXPECT_EQ(tsc_vmm_may_run(session, why), 0);
  EXPECT_THAT(why, HasSubstr("no agent has said yet"));
  EXPECT_EQ(tsc_vmm_may_run(session, nullptr), 0);
  EXPECT_EQ(tsc_vmm_resume(session, why), -1);
  EXPECT_THAT(why, HasSubstr("is tsc-agent running?"));
  EXPECT_EQ(tsc_vmm_wait_permit(session, 10, why), -1);
  EXPECT_THAT(why, HasSubstr("no agent has said yet"));
  tsc_vmm_close(session);
}

// An agent that sends what is no message of the protocol is not talked to any more.
TEST_F(OpenVmm, EndsTheConnectionOfAnAgentThatSendsNonsense) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE] = "";
  ASSERT_EQ(tsc_vmm_open_socket(&config_, ends[1], &session, why), 0) << why;
  const tsc_wire_header welcome = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_WELCOME, 0};
  ASSERT_EQ(send(ends[0], &welcome, sizeof(welcome), 0), static_cast<ssize_t>(sizeof(welcome)));
  const char nonsense[sizeof(tsc_wire_write)] = "nonsense";
  ASSERT_EQ(send(ends[0], nonsense, sizeof(nonsense), 0), static_cast<ssize_t>(sizeof(nonsense)));
  // HELLO and VCPUS, then the end.
  char ignored[4096];
  ssize_t size;
  while ((size = recv(ends[0], ignored, sizeof(ignored), 0)) > 0) {
  }
  EXPECT_EQ(size, 0);
  tsc_vmm_close(session);
  close(ends[0]);
}

}  // namespace
