// Checker: what must hold at every moment of a simulated world (design: I1 to I6), and the truth
// that it is compared with. The agents know nothing of it.
//
//   I1  the difference of any two vCPUs' TSCs arrives exactly
//   I2  no vCPU's TSC is lower after a handoff than when it was captured, or when the VM last ran
//   I3  after a handoff that did not arrive, the VM there has what it had before
//   I4  the true error of guest time is within the bound that was answered
//   I5  at most one host's VMM holds the permit to run the VM; epochs only rise; the destination is
//       ACTIVE or ABORTED only after the source is RELEASED or ABORTED; a repeated request has the
//       answer that was given before
//   I6  what an agent said has happened is there after every crash
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_CHECKER_H_
#define TSC_HANDOFF_TESTS_SIMULATE_CHECKER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/handoff/handoff_machine.h"
#include "server/journal/journal.h"
#include "server/time/tsc_scaling.h"
#include "tests/simulate/context.h"
#include "tests/simulate/host.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::simulate {

// A handoff as the world knows it: what both agents have said.
struct Told {
  std::string vm_id;
  int source = -1;  // number of the host
  int destination = -1;
  std::optional<journal::State> at_source;
  std::optional<journal::State> at_destination;
  bool restored = false;
  int applies = 0;

  bool Ended() const {
    using journal::State;
    return (at_source == State::kReleased && at_destination == State::kActive) ||
           (at_source == State::kAborted &&
            (!at_destination.has_value() || (at_destination == State::kAborted && restored)));
  }
};

class Checker {
 public:
  explicit Checker(Context& context) : context_(context) {}

  // Before anything happens. The hosts outlive this.
  void Watch(const std::vector<Host*>& hosts) { hosts_ = hosts; }

  // A write of the journal has begun.
  void InDoubt(const Host& host, const journal::Change& change);
  // It is durable, and was told.
  void Changed(Host& host, const journal::HandoffRecord& record, handoff::Event event);
  // What a new agent finds.
  void Loaded(const Host& host, const journal::Contents& contents);
  // A record is old and was dropped.
  void Forgotten(const Host& host, const std::string& handoff_id, journal::Side side);

  // Answers of GetTscState and SetTscState that left an agent.
  void Answered(const Host& host, const tschandoff::v1::GetTscStateRequest& request,
                const tschandoff::v1::GetTscStateResponse& response);
  void Answered(const Host& host, const std::string& handoff_id,
                const tschandoff::v1::SetTscStateRequest& request,
                const tschandoff::v1::SetTscStateResponse& response);

  void Paused(const Host& host, const Vmm& vmm);
  void Resumed(const Host& host, const Vmm& vmm);

  // After every event.
  void CheckOwners();
  // At the end, when nothing can go wrong any more.
  void CheckEnd();

  const std::map<std::string, Told>& told() const { return told_; }
  // Its only process was killed.
  bool Dead(const std::string& vm_id) const { return dead_.count(vm_id) > 0; }

 private:
  struct Key {
    int host;
    std::string handoff_id;
    journal::Side side;
    auto operator<=>(const Key&) const = default;
  };
  struct Truth {  // of a captured VM
    Host* host = nullptr;
    uint32_t guest_khz = 0;
    std::vector<uint64_t> offsets;
    std::vector<uint64_t> captured;  // guest TSCs
  };
  struct Highest {
    uint64_t epoch = 0;
    std::string handoff_id;
  };

  void Captured(Host& host, const journal::HandoffRecord& record);
  void Begun(Host& host, const journal::HandoffRecord& record);
  void Applied(Host& host, const journal::HandoffRecord& record);
  void Undone(Host& host, const journal::HandoffRecord& record);
  void Arrived(Host& host, const journal::HandoffRecord& record);
  void CheckSides(const std::string& handoff_id, const Told& told);
  void Tell(const Host& host, const journal::HandoffRecord& record);
  uint64_t GuestTsc(const Host& host, const Vmm& vmm, size_t vcpu, int64_t at_ps) const;
  // The VMM that the record is about, if it is there.
  VmmPtr VmmOf(Host& host, const journal::HandoffRecord& record) const;

  Context& context_;
  std::vector<Host*> hosts_;
  std::map<std::string, Told> told_;  // by handoff
  std::map<Key, journal::State> noted_;
  std::map<Key, std::vector<journal::State>> in_doubt_;
  std::set<Key> applying_at_start_;
  std::map<std::pair<int, std::string>, Highest> highest_;              // by host and VM
  std::unordered_map<std::string, Truth> truths_;                       // by handoff
  std::unordered_map<std::string, std::vector<uint64_t>> applied_;      // by handoff
  std::unordered_map<std::string, std::string> captures_;               // answers, by request
  std::map<std::pair<std::string, std::string>, std::string> applies_;  // by handoff and request
  std::map<std::string, std::vector<uint64_t>> paused_at_;              // guest TSCs, by VM
  std::set<std::string> dead_;
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_CHECKER_H_
