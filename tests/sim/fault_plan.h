// FaultPlan: which ioctls of a simulated host go wrong, and how.
//
// Threading: not synchronised; SimHost guards it.
#ifndef TSC_HANDOFF_TESTS_SIM_FAULT_PLAN_H_
#define TSC_HANDOFF_TESTS_SIM_FAULT_PLAN_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace tsc_handoff::sim {

// One ioctl, as a fault plan, a hook and the log see it.
struct SimCall {
  static constexpr uint32_t kNoVcpu = UINT32_MAX;

  int process = 0;
  unsigned long request = 0;
  uint32_t vcpu_id =
      kNoVcpu;  // kNoVcpu: the VM's descriptor, /dev/kvm, or no descriptor of the host at all
};

struct Fault {
  enum class Kind {
    kErrno,  // fails with `error`, nothing happens
    kDrop,   // answers as if it had worked, nothing happens
    kShort,  // KVM_GET_MSRS and KVM_SET_MSRS stop after `count` entries
  };

  Kind kind = Kind::kErrno;
  int error = 5;  // EIO
  uint32_t count = 0;

  // Which calls: of this request and this vCPU; unset means any.
  std::optional<unsigned long> request = std::nullopt;
  std::optional<uint32_t> vcpu_id = std::nullopt;
  // The nth such call from now, counted from 1; with `always` every one from the nth.
  uint64_t nth = 1;
  bool always = false;
};

class FaultPlan {
 public:
  void Add(const Fault& fault) { rules_.push_back({fault, 0}); }
  void Clear() { rules_.clear(); }

  // Counts the call in every rule and returns the first rule's fault that hits it.
  std::optional<Fault> Next(const SimCall& call);

 private:
  struct Rule {
    Fault fault;
    uint64_t seen;
  };

  std::vector<Rule> rules_;
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_FAULT_PLAN_H_
