#include "server/auth/roles.h"

#include <array>

namespace tsc_handoff::auth {
namespace {

constexpr char kAgent[] = "tschandoff.v1.TscAgent";
constexpr char kHealth[] = "grpc.health.v1.Health";
constexpr char kReflection[] = "grpc.reflection.v1alpha.ServerReflection";

constexpr std::array kRoles = {Role::kPeer, Role::kViewer, Role::kOrchestrator, Role::kAdmin,
                               Role::kVmm};

std::vector<MethodRule> MakeRules() {
  constexpr bool kChanges = true;
  return {
      {kAgent, "ProbeClock", Role::kPeer},
      {kAgent, "GetHostInfo", Role::kViewer},
      {kAgent, "ListVms", Role::kViewer},
      {kAgent, "GetVm", Role::kViewer},
      {kAgent, "GetHandoff", Role::kViewer},
      {kAgent, "ListHandoffs", Role::kViewer},
      {kAgent, "WatchHandoffs", Role::kViewer},
      // It has the agent call an address that the caller chooses.
      {kAgent, "CompareClocks", Role::kOrchestrator},
      {kAgent, "GetTscState", Role::kOrchestrator, kChanges},
      {kAgent, "SetTscState", Role::kOrchestrator, kChanges},
      {kAgent, "CommitHandoff", Role::kOrchestrator, kChanges},
      {kAgent, "AbortHandoff", Role::kOrchestrator, kChanges},
      // The word of an operator, which the agents cannot check.
      {kAgent, "ReclaimVm", Role::kAdmin, kChanges},
      {kAgent, "DisownVm", Role::kAdmin, kChanges},
      {kAgent, "Drain", Role::kAdmin, kChanges},
      {kAgent, "Reload", Role::kAdmin, kChanges},
      // Load balancers, Kubernetes' probes and the agent's own watchdog ask; the answer is one
      // word.
      {kHealth, "Check", std::nullopt},
      {kHealth, "Watch", std::nullopt},
      // The published API, and nothing of this host.
      {kReflection, "ServerReflectionInfo", std::nullopt},
  };
}

}  // namespace

const std::vector<MethodRule>& MethodRules() {
  static const auto* const kRules = new std::vector<MethodRule>(MakeRules());
  return *kRules;
}

const MethodRule* FindRule(absl::string_view service, absl::string_view method) {
  for (const MethodRule& rule : MethodRules()) {
    if (rule.method == method && rule.service == service) return &rule;
  }
  return nullptr;
}

bool Includes(Role has, Role needs) {
  if (has == Role::kVmm || needs == Role::kVmm) return has == needs;
  return has >= needs;
}

const char* NameOf(Role role) {
  switch (role) {
    case Role::kPeer:
      return "peer";
    case Role::kViewer:
      return "viewer";
    case Role::kOrchestrator:
      return "orchestrator";
    case Role::kAdmin:
      return "admin";
    case Role::kVmm:
      break;
  }
  return "vmm";
}

std::optional<Role> RoleNamed(absl::string_view name) {
  for (const Role role : kRoles) {
    if (name == NameOf(role)) return role;
  }
  return std::nullopt;
}

std::vector<std::string> RoleNames() {
  std::vector<std::string> names;
  for (const Role role : kRoles) names.emplace_back(NameOf(role));
  return names;
}

}  // namespace tsc_handoff::auth
