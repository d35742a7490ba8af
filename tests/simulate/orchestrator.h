// Orchestrator: drives the delivered HandoffRun over the simulated network, until it ends or dies.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_ORCHESTRATOR_H_
#define TSC_HANDOFF_TESTS_SIMULATE_ORCHESTRATOR_H_

#include <functional>
#include <memory>
#include <string>

#include "client/lib/handoff_run.h"
#include "tests/simulate/context.h"
#include "tests/simulate/host.h"
#include "tests/simulate/network.h"

namespace tsc_handoff::simulate {

struct Task {
  client::HandoffGoal goal = client::HandoffGoal::kFinish;
  std::string handoff_id;
  std::string vm_id;
  Host* source = nullptr;
  Host* destination = nullptr;
  bool exact = false;      // mode
  bool otherwise = false;  // with other options than others have, so that its requests differ
};

class Orchestrator : public std::enable_shared_from_this<Orchestrator> {
 public:
  // Null: it died.
  using Ended = std::function<void(const client::HandoffResult*)>;

  static void Start(Context& context, Network& network, const Task& task, Ended ended);

 private:
  Orchestrator(Context& context, Network& network, const Task& task, Ended ended);
  void Go();
  void Send();
  void End(const client::HandoffResult* result);

  Context& context_;
  Network& network_;
  const Task task_;
  Ended ended_;
  client::HandoffRun run_;
  bool over_ = false;
  std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_ORCHESTRATOR_H_
