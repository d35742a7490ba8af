#include "server/agent/process_settings.h"

#include "server/confine/system_call_filter.h"

namespace tsc_handoff::agent {

void ApplyChanges(const CommandLine& now, Agent& agent) {
  agent.SetLimits(now.options.limits);
  agent.SetMaxRequestRate(now.options.serving.max_request_rate);
  agent.SetPolicy(now.options.policy);
}

absl::StatusOr<service::Reloaded> ReloadAll(Agent* agent, const CommandLine& command_line,
                                            Reconfiguration& configuration) {
  // Whatever the files say: the old one has been moved away.
  if (agent != nullptr) agent->ReopenAudit();
  const bool certificates = agent != nullptr && agent->ReloadCertificates();
  absl::StatusOr<service::Reloaded> reloaded = service::Reloaded();
  const bool has_file = !command_line.config.empty() || !command_line.policy.empty();
  if (has_file || command_line.options.transport.tls.empty()) reloaded = configuration.Reload();
  if (reloaded.ok() && certificates) reloaded->changed.emplace_back("tls-cert: a new certificate");
  return reloaded;
}

absl::Status ConfineAsWanted(const CommandLine& command_line) {
  if (command_line.seccomp == "off") return absl::OkStatus();
  confine::SystemCallFilter filter;
  if (command_line.seccomp == "kill") filter.forbidden = confine::Forbidden::kKills;
  filter.attach = command_line.vms.rules.attach;
  return confine::Confine(filter);
}

}  // namespace tsc_handoff::agent
