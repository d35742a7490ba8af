// Guarded: a test with one host whose agent has a policy, Unix sockets for callers and VMMs, a TCP
// port and an audit file; and users of this host with a role each.
#ifndef TSC_HANDOFF_TESTS_SERVICE_GUARDED_H_
#define TSC_HANDOFF_TESTS_SERVICE_GUARDED_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "server/auth/policy.h"
#include "tests/service/caller_as.h"
#include "tests/service/pair.h"

namespace tsc_handoff {

// Nobody has these ids.
inline const User kRoot{0, 0};
inline const User kPeer{61001, 61001};
inline const User kViewer{61002, 61002};
inline const User kWebOrchestrator{61003, 61003};           // of VMs "web-*"
inline const User kOrchestrator{61004, 61004, {7, 62004}};  // by its group 62004
inline const User kAdmin{61005, 61005};
inline const User kVmm{61006, 61006};
inline const User kNobody{61007, 61007};

// Who has a role by it, but for kVmm, who has none: VMMs are bound in tests of their own.
inline constexpr char kPolicyText[] = R"(
bindings:
  - {role: peer, users: 61001}
  - {role: viewer, users: 61002}
  - {role: orchestrator, users: 61003, vms: "web-*"}
  - {role: orchestrator, groups: 62004}
  - {role: admin, users: [0, 61005]}
)";

inline std::shared_ptr<const auth::Policy> PolicyOf(const std::string& text) {
  const auto number = [](const std::string& word) -> absl::StatusOr<uint32_t> {
    return static_cast<uint32_t>(std::stoul(word));
  };
  auto policy = auth::ParsePolicy(text, "policy.yaml", {number, number});
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? std::make_shared<const auth::Policy>(*std::move(policy)) : nullptr;
}

class Guarded : public testing::Test {
 protected:
  void SetUp() override {
    if (!MayBeOthers()) GTEST_SKIP() << kNeedsRoot;
    char directory[] = "/tmp/tsc-auth.XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    // The sockets are for all here: who may open them is not what is tested.
    std::filesystem::permissions(directory_, std::filesystem::perms::all);
    options_.agent.listen = {"unix:" + path("agent.sock"), "127.0.0.1:0"};
    options_.agent.vmm_socket = path("vmm.sock");
    options_.agent.audit_log = path("audit.log");
    options_.agent.policy = PolicyOf(kPolicyText);
    options_.journal_path = path("journal.db");
  }

  void TearDown() override {
    guests_.clear();
    node_.reset();
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  void Start() {
    auto node = sim::SimNode::Start(std::make_shared<sim::SimTime>(), options_);
    ASSERT_TRUE(node.ok()) << node.status();
    node_ = *std::move(node);
    OpenSockets();
  }

  void OpenSockets() {
    for (const char* name : {"agent.sock", "vmm.sock"})
      std::filesystem::permissions(path(name), std::filesystem::perms::all);
  }

  void AddVms(const std::vector<std::string>& ids) {
    for (const std::string& id : ids) {
      auto guest = node_->AddGuest(Named(id));
      ASSERT_TRUE(guest.ok()) << guest.status();
      guests_.push_back(*std::move(guest));
    }
  }

  // Begins a handoff of it to nowhere.
  void Capture(const std::string& vm_id, const std::string& handoff_id) {
    v1::GetTscStateRequest request;
    request.set_vm_id(vm_id);
    request.set_handoff_id(handoff_id);
    request.set_destination_agent_id(std::string(16, 'd'));
    request.set_destination_vm_id(vm_id);
    const auto captured = As(kRoot).Call<v1::GetTscStateResponse>("GetTscState", request);
    ASSERT_TRUE(captured.ok()) << captured.status();
  }

  CallerAs As(const User& user) const { return CallerAs(user, path("agent.sock")); }
  CallerAs ByTcp() const {
    return CallerAs("127.0.0.1:" + std::to_string(node_->agent().ports()[1]));
  }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::vector<std::string> AuditLines() const {
    std::ifstream file(path("audit.log"));
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  std::string directory_;
  sim::SimNodeOptions options_;
  std::unique_ptr<sim::SimNode> node_;
  std::vector<std::unique_ptr<sim::SimGuest>> guests_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_GUARDED_H_
