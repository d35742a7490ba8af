#include "server/auth/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace tsc_handoff::auth {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Users and groups that are on no real host.
Accounts TestAccounts() {
  const auto number_of = [](const char* kind) {
    return [kind](const std::string& name) -> absl::StatusOr<uint32_t> {
      if (name == "root") return 0u;
      if (name == "vera") return 1001u;
      if (name == "ops") return 2001u;
      if (name.find_first_not_of("0123456789") == std::string::npos && !name.empty())
        return static_cast<uint32_t>(std::stoul(name));
      return absl::InvalidArgumentError("\"" + name + "\" is no " + kind + " of this host");
    };
  };
  return {number_of("user"), number_of("group")};
}

absl::StatusOr<Policy> Parse(const std::string& text) {
  return ParsePolicy(text, "policy.yaml", TestAccounts());
}

Identity Unix(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {}) {
  Identity identity;
  identity.kind = Identity::Kind::kUnix;
  identity.uid = uid;
  identity.gid = gid;
  identity.groups = std::move(groups);
  return identity;
}

Identity Certificate(std::vector<std::string> uris, std::vector<std::string> dns = {}) {
  Identity identity;
  identity.kind = Identity::Kind::kCertificate;
  identity.uris = std::move(uris);
  identity.dns = std::move(dns);
  identity.address = "ipv4:10.0.0.1:4711";
  return identity;
}

Identity Anonymous() {
  Identity identity;
  identity.kind = Identity::Kind::kAnonymous;
  identity.address = "ipv4:10.0.0.1:4711";
  return identity;
}

constexpr char kPolicy[] = R"(
bindings:
  - role: admin
    users: [root, 1000]
    groups: ops
  - role: orchestrator
    certificates: ["spiffe://example.org/orchestrator/*", "dns:orchestrator.example.org"]
    vms: ["web-*", "db-1"]
  - role: orchestrator
    certificates: ["spiffe://example.org/orchestrator/mail"]
    vms: "mail-*"
  - role: viewer
    certificates: ["spiffe://example.org/orchestrator/*"]
  - role: peer
    certificates: ["spiffe://example.org/agent/*"]
  - role: viewer
    anonymous: true
  - role: vmm
    users: vera
    vms: ["vera-*"]
)";

TEST(Decide, GivesWhatTheBindingsGiveAndNothingElse) {
  const auto policy = Parse(kPolicy);
  ASSERT_TRUE(policy.ok()) << policy.status();
  struct Row {
    const char* who;
    Identity identity;
    Role needs;
    bool permitted;
    const char* in_scope;   // null: nothing is
    const char* out_of_it;  // null: nothing is
  };
  const Identity orchestrator = Certificate({"spiffe://example.org/orchestrator/a"});
  const Identity mail = Certificate({"spiffe://example.org/orchestrator/mail"});
  const Row rows[] = {
      {"root", Unix(0, 0), Role::kAdmin, true, "web-1", nullptr},
      {"1000", Unix(1000, 5), Role::kAdmin, true, "x", nullptr},
      {"first group", Unix(7, 2001), Role::kAdmin, true, "x", nullptr},
      {"a supplementary group", Unix(7, 5, {4, 2001}), Role::kPeer, true, "x", nullptr},
      {"nobody", Unix(65534, 65534), Role::kPeer, false, nullptr, "x"},
      {"a uid that is a group's number", Unix(2001, 5), Role::kPeer, false, nullptr, "x"},
      {"a VMM's user calls", Unix(1001, 5), Role::kPeer, false, nullptr, "vera-1"},
      {"an admin is no VMM", Unix(0, 0), Role::kVmm, false, nullptr, "x"},
      {"a VMM's user registers", Unix(1001, 5), Role::kVmm, true, "vera-1", "web-1"},
      {"orchestrator", orchestrator, Role::kOrchestrator, true, "web-1", "web1"},
      {"orchestrator", orchestrator, Role::kOrchestrator, true, "db-1", "mail-1"},
      {"orchestrator reads all", orchestrator, Role::kViewer, true, "mail-1", nullptr},
      {"orchestrator is no admin", orchestrator, Role::kAdmin, false, nullptr, "web-1"},
      {"two bindings add up", mail, Role::kOrchestrator, true, "mail-1", "db-2"},
      {"two bindings add up", mail, Role::kOrchestrator, true, "web-1", "db-2"},
      {"by DNS", Certificate({}, {"orchestrator.example.org"}), Role::kOrchestrator, true, "web-1",
       "mail-1"},
      {"any of the names", Certificate({"urn:x", "spiffe://example.org/agent/h1"}), Role::kPeer,
       true, "x", nullptr},
      {"a peer reads nothing", Certificate({"spiffe://example.org/agent/h1"}), Role::kViewer, false,
       nullptr, "x"},
      {"another domain", Certificate({"spiffe://example.com/orchestrator/a"}), Role::kPeer, false,
       nullptr, "x"},
      {"no names", Certificate({}), Role::kPeer, false, nullptr, "x"},
      {"anonymous", Anonymous(), Role::kViewer, true, "x", nullptr},
      {"anonymous", Anonymous(), Role::kOrchestrator, false, nullptr, "x"},
      {"unknown", Identity(), Role::kPeer, false, nullptr, "x"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::Message() << row.who << ", " << NameOf(row.needs));
    const Verdict verdict = Decide(*policy, row.identity, row.needs);
    EXPECT_EQ(verdict.permitted, row.permitted);
    EXPECT_TRUE(row.in_scope == nullptr || verdict.vms.Holds(row.in_scope));
    EXPECT_FALSE(row.out_of_it != nullptr && verdict.vms.Holds(row.out_of_it));
    EXPECT_EQ(verdict.vms.all, row.permitted && row.out_of_it == nullptr);
  }
  EXPECT_EQ(RolesInWords(*policy, orchestrator), "orchestrator, viewer");
  EXPECT_EQ(RolesInWords(*policy, Unix(9, 9)), "none");
  EXPECT_TRUE(BindsVmms(*policy));
}

TEST(BuiltInPolicy, IsForRootTheAgentItsGroupAndPlainTcp) {
  const Policy policy = BuiltInPolicy(990, 991);
  EXPECT_TRUE(Decide(policy, Unix(0, 0), Role::kAdmin).vms.all);
  EXPECT_TRUE(Decide(policy, Unix(990, 100), Role::kAdmin).vms.all);
  EXPECT_TRUE(Decide(policy, Unix(1000, 100, {27, 991}), Role::kAdmin).vms.all);
  EXPECT_TRUE(Decide(policy, Anonymous(), Role::kAdmin).vms.all);
  Identity by_tls = Anonymous();
  by_tls.tls = true;
  EXPECT_FALSE(Decide(policy, by_tls, Role::kPeer).permitted) << "that address is not for all";
  EXPECT_FALSE(Decide(policy, Unix(1000, 100, {27}), Role::kPeer).permitted);
  EXPECT_FALSE(
      Decide(policy, Certificate({"spiffe://example.org/x"}, {"x"}), Role::kPeer).permitted);
  EXPECT_FALSE(Decide(policy, Identity(), Role::kPeer).permitted);
  EXPECT_FALSE(BindsVmms(policy));
}

TEST(Policy, WithoutBindingsGivesNothing) {
  const auto policy = Parse("bindings: []\n");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_FALSE(Decide(*policy, Unix(0, 0), Role::kPeer).permitted);
}

TEST(ParsePolicy, SaysLineAndWhatWasExpected) {
  struct Row {
    const char* text;
    const char* where;
    const char* what;
  };
  const Row rows[] = {
      {"", "policy.yaml:1: ", "bindings was expected"},
      {"# nothing\n", "policy.yaml:1: ", "bindings was expected"},
      {"- role: admin\n", "policy.yaml:1: ", "lines of KEY: VALUE were expected"},
      {"binding: []\n", "policy.yaml:1: ", "bindings was expected"},
      {"bindings: []\nversion: 1\n", "policy.yaml:2: ", "version: no such key"},
      {"bindings: []\nbindings: []\n", "policy.yaml:2: ", "twice"},
      {"bindings: admin\n", "policy.yaml:1: ", "a list of bindings was expected"},
      {"bindings:\n  - admin\n", "policy.yaml:2: ", "a binding was expected"},
      {"bindings:\n  - users: root\n", "policy.yaml:2: ", "role was expected: one of peer, viewer"},
      {"bindings:\n  - role: boss\n    users: root\n", "policy.yaml:2: ", "not \"boss\""},
      {"bindings:\n  - role: [admin]\n", "policy.yaml:2: ", "one of peer"},
      {"bindings:\n  - role: admin\n", "policy.yaml:2: ", "nobody is named"},
      {"bindings:\n  - role: admin\n    anonymous: false\n", "policy.yaml:2: ", "nobody is named"},
      {"bindings:\n  - role: admin\n    user: root\n", "policy.yaml:3: ", "user: no such key"},
      {"bindings:\n  - role: admin\n    users: nemo\n",
       "policy.yaml:3: ", "users: \"nemo\" is no user of this host"},
      {"bindings:\n  - role: admin\n    groups: [root, nemo]\n",
       "policy.yaml:3: ", "groups: \"nemo\" is no group of this host"},
      {"bindings:\n  - role: admin\n    users: []\n", "policy.yaml:3: ", "a word or a list"},
      {"bindings:\n  - role: admin\n    users: {a: b}\n", "policy.yaml:3: ", "a word or a list"},
      {"bindings:\n  - role: admin\n    users: [[root]]\n", "policy.yaml:3: ", "a word or a list"},
      {"bindings:\n  - role: viewer\n    anonymous: yes please\n",
       "policy.yaml:3: ", "true or false"},
      {"bindings:\n  - role: viewer\n    users: root\n    vms: [\"we b\"]\n",
       "policy.yaml:4: ", "vms: \"we b\" has a character"},
      {"bindings:\n  - role: viewer\n    certificates: [\"*\"]\n",
       "policy.yaml:3: ", "neither a URI"},
      {"bindings:\n  - role: viewer\n    certificates: \"spiffe://*/x\"\n",
       "policy.yaml:3: ", "spell it out"},
      {"bindings:\n  - role: admin\n    users: root\n    users: vera\n",
       "policy.yaml:4: ", "twice"},
      {"bindings:\n  - role: admin\n    users: root\n    vms: \"a*\"\n",
       "policy.yaml:2: ", "leave vms out"},
      {"bindings:\n  - role: peer\n    users: root\n    vms: \"a*\"\n",
       "policy.yaml:2: ", "leave vms out"},
      {"bindings:\n  - role: vmm\n    anonymous: true\n",
       "policy.yaml:2: ", "users and groups only"},
      {"bindings:\n  - role: vmm\n    certificates: dns:x\n",
       "policy.yaml:2: ", "users and groups only"},
      {"bindings: [\n", "policy.yaml:", "this is no YAML"},
      {"bindings: []\n---\nbindings: []\n", "policy.yaml:", "a second document"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    const auto policy = Parse(row.text);
    ASSERT_FALSE(policy.ok());
    EXPECT_THAT(std::string(policy.status().message()), StartsWith(row.where));
    EXPECT_THAT(std::string(policy.status().message()), HasSubstr(row.what));
  }
}

TEST(ReadPolicy, RefusesAFileThatEverybodyMayWriteAndOneThatIsNotThere) {
  char directory[] = "/tmp/policy-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/policy.yaml";
  std::ofstream(path) << "bindings: []\n";
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  const auto policy = ReadPolicy(path);
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->source, path);
  EXPECT_EQ(policy->digest.size(), 64u);
  ASSERT_EQ(chmod(path.c_str(), 0646), 0);
  EXPECT_THAT(std::string(ReadPolicy(path).status().message()), HasSubstr("chmod o-w"));
  std::filesystem::remove_all(directory);
  EXPECT_THAT(std::string(ReadPolicy(path).status().message()), HasSubstr("cannot be read"));
}

// But for the users and groups that it names, which are not on every host.
TEST(ShippedExample, IsAPolicyAsItStandsAndWithItsCommentsTakenAway) {
  std::ifstream file("deploy/config/policy.yaml");
  std::string as_it_stands;
  std::string uncommented;
  bool in_the_list = false;
  for (std::string line; std::getline(file, line);) {
    as_it_stands += line + "\n";
    // After the list's beginning "#  - role: ..." is an example, "#  # Words" are words.
    in_the_list |= line == "bindings:";
    const bool example = in_the_list && line.rfind("#  ", 0) == 0;
    uncommented += (example ? line.substr(1) : line) + "\n";
  }
  const Accounts any = {[](const std::string&) -> absl::StatusOr<uint32_t> { return 42u; },
                        [](const std::string&) -> absl::StatusOr<uint32_t> { return 43u; }};
  const auto plain = ParsePolicy(as_it_stands, "policy.yaml", any);
  ASSERT_TRUE(plain.ok()) << plain.status();
  const auto full = ParsePolicy(uncommented, "policy.yaml", any);
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_GT(full->bindings.size(), plain->bindings.size());
  std::set<Role> shown;
  for (const Binding& binding : full->bindings) shown.insert(binding.role);
  EXPECT_EQ(shown.size(), RoleNames().size()) << "each role has an example";
}

}  // namespace
}  // namespace tsc_handoff::auth
