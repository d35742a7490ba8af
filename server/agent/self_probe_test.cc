#include "server/agent/self_probe.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff::agent {
namespace {

class SelfProbeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = std::string(directory_) + "/agent.sock";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(directory_);
  }

  std::unique_ptr<grpc::Server> Serve(const std::vector<std::string>& addresses, int* port) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(&service_);  // without a service nothing is served
    for (const std::string& address : addresses)
      builder.AddListeningPort(address, grpc::InsecureServerCredentials(), port);
    return builder.BuildAndStart();
  }

  char directory_[32] = "/tmp/self-probe-XXXXXX";
  std::string path_;
  int port_ = 0;
  grpc::CallbackGenericService service_;
};

TEST_F(SelfProbeTest, AServerAnswersAtAUnixSocketAndAtThePortThatItChose) {
  const auto server = Serve({"unix:" + path_, "127.0.0.1:0"}, &port_);
  EXPECT_TRUE(SelfProbe("unix:" + path_, 0).Answers(absl::Seconds(10)));
  EXPECT_TRUE(SelfProbe("127.0.0.1:0", port_).Answers(absl::Seconds(10)));
}

TEST_F(SelfProbeTest, NotServingIsAnAnswer) {
  const auto server = Serve({"unix:" + path_}, &port_);
  server->GetHealthCheckService()->SetServingStatus(false);
  EXPECT_TRUE(SelfProbe("unix:" + path_, 0).Answers(absl::Seconds(10)));
}

TEST_F(SelfProbeTest, ServesIsOfTheServiceThatIsAskedFor) {
  const auto server = Serve({"unix:" + path_}, &port_);
  server->GetHealthCheckService()->SetServingStatus("good", true);
  server->GetHealthCheckService()->SetServingStatus("bad", false);
  SelfProbe probe("unix:" + path_, 0);
  EXPECT_TRUE(probe.Serves("", absl::Seconds(10)));
  EXPECT_TRUE(probe.Serves("good", absl::Seconds(10)));
  EXPECT_FALSE(probe.Serves("bad", absl::Seconds(10)));
  EXPECT_FALSE(probe.Serves("nobody", absl::Seconds(10)));
}

TEST_F(SelfProbeTest, PastTheSocketsTheServerAnswersToo) {
  const auto server = Serve({"unix:" + path_}, &port_);
  EXPECT_TRUE(SelfProbe(server->InProcessChannel({})).Answers(absl::Seconds(10)));
}

TEST_F(SelfProbeTest, ASocketThatAcceptsButNeverAnswersIsNoAnswer) {
  UniqueFd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listening.get(), 1), 0);
  EXPECT_FALSE(SelfProbe("unix:" + path_, 0).Answers(absl::Milliseconds(100)));
}

TEST_F(SelfProbeTest, AfterAServerHasGoneThereIsNoAnswer) {
  auto server = Serve({"unix:" + path_}, &port_);
  SelfProbe probe("unix:" + path_, 0);
  ASSERT_TRUE(probe.Answers(absl::Seconds(10)));
  server.reset();
  EXPECT_FALSE(probe.Answers(absl::Milliseconds(100)));
}

}  // namespace
}  // namespace tsc_handoff::agent
