// Registration: a test with one host whose agent has a socket for VMMs.
#ifndef TSC_HANDOFF_TESTS_SERVICE_REGISTRATION_H_
#define TSC_HANDOFF_TESTS_SERVICE_REGISTRATION_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/service/pair.h"

namespace tsc_handoff {

class Registration : public testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/tsc-reg.XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    ASSERT_NO_FATAL_FAILURE(StartNode(NodeOptions()));
  }

  void TearDown() override {
    guests_.clear();
    node_.reset();
    unlink((socket_path() + ".lock").c_str());
    unlink(socket_path().c_str());
    rmdir(directory_.c_str());
  }

  sim::SimNodeOptions NodeOptions() const {
    sim::SimNodeOptions options;
    options.agent.vmm_socket = socket_path();
    return options;
  }

  void StartNode(const sim::SimNodeOptions& options) {
    node_.reset();
    auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options);
    ASSERT_TRUE(node.ok()) << node.status();
    node_ = *std::move(node);
    client_ = ClientOf(*node_);
  }

  std::string socket_path() const { return directory_ + "/vmm.sock"; }

  size_t VmCount() {
    auto vms = client_->ListVms();
    EXPECT_TRUE(vms.ok()) << vms.status();
    return vms.ok() ? vms->size() : SIZE_MAX;
  }

  std::string directory_;
  std::unique_ptr<sim::SimNode> node_;
  std::unique_ptr<client::AgentClient> client_;
  std::vector<std::unique_ptr<sim::SimGuest>> guests_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_REGISTRATION_H_
