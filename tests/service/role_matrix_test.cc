// Role x method x caller, for every method of every service that the agent serves, as its
// reflection tells: a method that is new here, or has no rule, fails.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/empty.pb.h>
#include <google/protobuf/unknown_field_set.h>

#include <map>
#include <set>

#include "server/auth/roles.h"
#include "tests/service/guarded.h"

namespace tsc_handoff {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr char kReflection[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
constexpr char kAgentService[] = "tschandoff.v1.TscAgent";

// Whoever has at least this role may call it. Written down a second time on purpose.
const std::map<std::string, std::string>& LeastRoles() {
  static const auto* const kRoles = new std::map<std::string, std::string>{
      {"ProbeClock", "peer"},
      {"GetHostInfo", "viewer"},
      {"ListVms", "viewer"},
      {"GetVm", "viewer"},
      {"GetHandoff", "viewer"},
      {"ListHandoffs", "viewer"},
      {"WatchHandoffs", "viewer"},
      {"CompareClocks", "orchestrator"},
      {"GetTscState", "orchestrator"},
      {"SetTscState", "orchestrator"},
      {"CommitHandoff", "orchestrator"},
      {"AbortHandoff", "orchestrator"},
      {"Drain", "admin"},
      {"ReclaimVm", "admin"},
      {"DisownVm", "admin"},
      {"Reload", "admin"},
  };
  return *kRoles;
}

// A length-delimited protobuf field of less than 128 bytes.
std::string Field(int number, const std::string& value) {
  std::string bytes;
  bytes += static_cast<char>(number << 3 | 2);
  bytes += static_cast<char>(value.size());
  return bytes + value;
}

// The values of a length-delimited field, of a message whose definition is not at hand.
std::vector<std::string> Values(const std::string& message, int number) {
  google::protobuf::Empty unknown;
  EXPECT_TRUE(unknown.ParseFromString(message));
  const auto& fields = unknown.GetReflection()->GetUnknownFields(unknown);
  std::vector<std::string> values;
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto& field = fields.field(i);
    if (field.number() == number &&
        field.type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      values.push_back(field.length_delimited());
  }
  return values;
}

// Of the reflection service's answers: list_services_response, service, name.
std::set<std::string> ServicesOf(CallerAs& caller) {
  std::set<std::string> names;
  const auto answer = caller.Call(kReflection, Field(7, ""));
  EXPECT_TRUE(answer.ok()) << answer.status();
  if (!answer.ok()) return names;
  for (const std::string& list : Values(*answer, 6)) {
    for (const std::string& service : Values(list, 1)) names.insert(Values(service, 1).at(0));
  }
  return names;
}

// Empty for a service whose definition the agent does not have: gRPC's own health.
std::vector<std::string> MethodsOf(CallerAs& caller, const std::string& service) {
  std::vector<std::string> methods;
  const auto answer = caller.Call(kReflection, Field(4, service));
  EXPECT_TRUE(answer.ok()) << answer.status();
  if (!answer.ok()) return methods;
  for (const std::string& files : Values(*answer, 4)) {
    for (const std::string& bytes : Values(files, 1)) {
      google::protobuf::FileDescriptorProto file;
      EXPECT_TRUE(file.ParseFromString(bytes));
      for (const auto& known : file.service()) {
        if (file.package() + "." + known.name() != service) continue;
        for (const auto& method : known.method()) methods.push_back(method.name());
      }
    }
  }
  return methods;
}

struct Caller {
  const char* who;
  User user;
  const char* role;  // empty: none
};

bool MayCall(const std::string& role, const std::string& least) {
  const std::vector<std::string> order = {"peer", "viewer", "orchestrator", "admin"};
  const auto rank = [&](const std::string& name) {
    return std::find(order.begin(), order.end(), name) - order.begin();
  };
  return !role.empty() && rank(role) >= rank(least);
}

class RoleMatrix : public Guarded {
 protected:
  // Refused by authorisation, with all that a refusal has; anything else is the handler's answer.
  static bool Denied(const absl::Status& status) {
    if (client::ReasonNameOf(status) != "NOT_AUTHORIZED") return false;
    ExpectRefused(status, absl::StatusCode::kPermissionDenied, "NOT_AUTHORIZED");
    return true;
  }
};

TEST_F(RoleMatrix, EveryServiceThatIsServedHasRules) {
  ASSERT_NO_FATAL_FAILURE(Start());
  CallerAs nobody = As(kNobody);
  const auto services = ServicesOf(nobody);
  EXPECT_THAT(services, UnorderedElementsAre(kAgentService, "grpc.health.v1.Health",
                                             "grpc.reflection.v1alpha.ServerReflection"));
  for (const std::string& service : services) {
    size_t rules = 0;
    for (const auth::MethodRule& rule : auth::MethodRules()) rules += rule.service == service;
    EXPECT_GT(rules, 0u) << service;
    for (const std::string& method : MethodsOf(nobody, service))
      EXPECT_NE(auth::FindRule(service, method), nullptr) << service << "/" << method;
  }
  EXPECT_EQ(MethodsOf(nobody, kAgentService).size(), LeastRoles().size())
      << "say in LeastRoles who may call the new method";
}

TEST_F(RoleMatrix, EachMethodIsForItsRolesAndForNobodyElse) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(AddVms({"web-1"}));
  ASSERT_NO_FATAL_FAILURE(Capture("web-1", "h-1"));  // so that a watch has a first message
  const Caller callers[] = {
      {"peer", kPeer, "peer"},
      {"viewer", kViewer, "viewer"},
      {"orchestrator of some VMs", kWebOrchestrator, "orchestrator"},
      {"orchestrator by its group", kOrchestrator, "orchestrator"},
      {"admin", kAdmin, "admin"},
      {"root", kRoot, "admin"},
      {"VMM", kVmm, ""},
      {"nobody", kNobody, ""},
  };
  CallerAs reflecting = As(kNobody);
  const auto methods = MethodsOf(reflecting, kAgentService);
  ASSERT_FALSE(methods.empty());
  size_t denials = 0;
  for (const Caller& caller : callers) {
    CallerAs as = As(caller.user);
    for (const std::string& method : methods) {
      SCOPED_TRACE(testing::Message() << caller.who << " calls " << method);
      const auto least = LeastRoles().find(method);
      ASSERT_NE(least, LeastRoles().end()) << "who may call it?";
      // An empty request: who may call it is told what is wrong with it.
      const auto answer = as.Call(std::string("/") + kAgentService + "/" + method, "");
      EXPECT_EQ(!Denied(answer.status()), MayCall(caller.role, least->second)) << answer.status();
      if (!Denied(answer.status())) continue;
      ++denials;
      EXPECT_THAT(std::string(answer.status().message()),
                  HasSubstr("uid " + std::to_string(caller.user.uid) + " (pid " +
                            std::to_string(getpid()) + ") may not call " + method));
      EXPECT_THAT(std::string(answer.status().message()), HasSubstr("the role " + least->second));
    }
  }
  size_t lines = 0;
  for (const std::string& line : AuditLines())
    lines += line.find("\"result\":\"NOT_AUTHORIZED\"") != std::string::npos;
  EXPECT_EQ(lines, denials) << "each refusal is a line of the audit";
}

TEST_F(RoleMatrix, PlainTcpIsAnonymousAndHasWhatThePolicySays) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const auto method = [](const char* name) {
    return std::string("/tschandoff.v1.TscAgent/") + name;
  };
  CallerAs tcp = ByTcp();
  const absl::Status denied = tcp.Call(method("ListVms"), "").status();
  ExpectRefused(denied, absl::StatusCode::kPermissionDenied, "NOT_AUTHORIZED");
  EXPECT_THAT(std::string(denied.message()), HasSubstr("anonymous@127.0.0.1"));
  node_->agent().SetPolicy(PolicyOf("bindings: [{role: viewer, anonymous: true}]"));
  EXPECT_TRUE(tcp.Call(method("ListVms"), "").ok());
  EXPECT_TRUE(Denied(tcp.Call(method("SetTscState"), "").status()));
  // Without a policy whoever reaches it may do everything: the operator has opened it.
  node_->agent().SetPolicy(nullptr);
  EXPECT_FALSE(Denied(tcp.Call(method("SetTscState"), "").status()));
}

TEST_F(RoleMatrix, WithoutAPolicyTheUnixSocketIsForRootTheAgentAndItsGroup) {
  options_.agent.policy = nullptr;
  ASSERT_NO_FATAL_FAILURE(Start());
  const std::string method = "/tschandoff.v1.TscAgent/ListVms";
  EXPECT_TRUE(As(kRoot).Call(method, "").ok());
  EXPECT_TRUE(As({61009, 61009, {getegid()}}).Call(method, "").ok()) << "a member of its group";
  EXPECT_TRUE(Denied(As(kAdmin).Call(method, "").status()));
}

TEST_F(RoleMatrix, HealthIsForWhoeverCanConnect) {
  ASSERT_NO_FATAL_FAILURE(Start());
  for (CallerAs caller : {As(kNobody), ByTcp()}) {
    const auto answer = caller.Call("/grpc.health.v1.Health/Check", "");
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(*answer, std::string("\x08\x01", 2)) << "status: SERVING";
  }
}

}  // namespace
}  // namespace tsc_handoff
