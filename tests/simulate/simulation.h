// Simulation: one world from one seed. Three hosts, one or two VMs that are handed from host to
// host, orchestrators that begin, resume and abort, and all that goes wrong meanwhile. At the end
// the faults stop, fresh orchestrators finish or undo what is left, and everything must end
// decided; then each VM is handed over once more.
//
// Threading: one thread; the same seed and options give the same world.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_SIMULATION_H_
#define TSC_HANDOFF_TESTS_SIMULATE_SIMULATION_H_

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/simulate/bugs.h"
#include "tests/simulate/checker.h"
#include "tests/simulate/context.h"
#include "tests/simulate/host.h"
#include "tests/simulate/network.h"
#include "tests/simulate/orchestrator.h"
#include "tests/simulate/tally.h"

namespace tsc_handoff::simulate {

class Simulation {
 public:
  // `trace` may be null: nothing is told.
  Simulation(uint64_t seed, const Bugs& bugs, std::ostream* trace, Tally& tally);
  ~Simulation();

  // What was wrong; empty when nothing was.
  std::string Run();

 private:
  struct Vm;

  void Build(const Bugs& bugs);
  Host& AnyHostBut(const Host& host);
  // The host where the VM is: whose VMM holds the permit. Null when none does now.
  Host* WhereIs(const Vm& vm) const;

  void RoundLater(Vm& vm, int64_t longest_ps);
  void Round(Vm& vm);
  void Prepare(Vm& vm, Host& destination);
  void Begin(Vm& vm, Host& source, Host& destination, const std::string& handoff_id);
  // Somebody takes up what was left, unless it has ended.
  void TakeUpLater(Vm& vm, const std::string& handoff_id);
  void OrchestratorEnded(Vm& vm, const std::string& handoff_id, bool began);
  void RoundOver(Vm& vm);

  void Trouble();
  void Lie();
  void LoseVmm();
  void BreakConnection();
  void StepClock();
  void Compact();

  bool RunUntil(int64_t longest_ps, const std::function<bool()>& done);
  void SetClocksRight();
  void CalmDown();
  void FinishEverything();
  bool AllEnded() const;
  void HandOver(Vm& vm, Host& source, Host& destination);
  void HandOverOnceMore();

  Tally& tally_;
  Context context_;
  Checker checker_;
  Network network_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<std::unique_ptr<Vm>> vms_;
  int handoffs_ = 0;
  bool over_ = false;  // no more rounds, no more trouble
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_SIMULATION_H_
