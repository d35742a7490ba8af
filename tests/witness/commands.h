// The witness VM as its control socket sees it: one JSON object in, one out.
//
// Every reply has "ok"; with false, "error" is a sentence. Quantities are whole numbers with their
// unit in the name; ticks are unsigned, modulo 2^64.
//
// Threading: one thread, but for the runner's own.
#ifndef TSC_HANDOFF_TESTS_WITNESS_COMMANDS_H_
#define TSC_HANDOFF_TESTS_WITNESS_COMMANDS_H_

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "tests/witness/machine.h"
#include "tests/witness/options.h"
#include "tests/witness/runner.h"
#include "tests/witness/session.h"

namespace tsc_handoff::witness {

class WitnessVm {
 public:
  // Makes the machine with a fresh guest or, with options.incoming, without one. `on_failure` is
  // the Runner's.
  static absl::StatusOr<std::unique_ptr<WitnessVm>> Create(
      const Options& options, std::function<void(const std::string&)> on_failure);

  // Registers at the agent and waits until it has accepted the VM.
  absl::Status Register();

  absl::Status Pause();
  absl::Status Resume();
  absl::Status Save(const std::string& path);
  absl::Status Load(const std::string& path);

  nlohmann::json Status();
  nlohmann::json Verdict() const;

  // Carries out one request. Sets *quit for "quit".
  nlohmann::json Handle(const nlohmann::json& request, bool* quit);

  const Machine& machine() const { return *machine_; }

 private:
  WitnessVm() = default;
  absl::StatusOr<nlohmann::json> Carry(const std::string& command, const nlohmann::json& request,
                                       bool* quit);
  absl::StatusOr<nlohmann::json> Disturb(const nlohmann::json& request);
  absl::StatusOr<nlohmann::json> CheckAcross(const nlohmann::json& request);
  nlohmann::json VcpuRecord(size_t index) const;

  Options options_;
  // Destroyed in reverse: first nobody runs, then the agent forgets the descriptors, then they are
  // closed.
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<AgentSession> session_;  // null without an agent
  std::unique_ptr<Runner> runner_;
  bool has_guest_ = false;
  bool has_run_ = false;
};

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_COMMANDS_H_
