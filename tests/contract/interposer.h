// Interposer: a tsc_kvm_ops that stands between the code under test and a kernel, real or
// simulated: it logs each ioctl, fails or drops chosen ones without issuing them, and calls a hook.
// With it every failure can be produced on real KVM too.
//
// Threading: safe from any thread.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_INTERPOSER_H_
#define TSC_HANDOFF_TESTS_CONTRACT_INTERPOSER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "client/vmm/tsc_kvm.h"

namespace tsc_handoff::contract {

// One ioctl, with what was passed in or came out.
struct LoggedCall {
  static constexpr uint32_t kVm = UINT32_MAX;

  unsigned long request = 0;
  uint32_t vcpu_id = kVm;  // kVm: the VM's descriptor
  bool writes = false;     // changes something in the VM
};

class Interposer {
 public:
  // `kernel` must outlive this object.
  Interposer(const tsc_kvm_ops* kernel, const tsc_kvm_vm& vm);
  Interposer(const Interposer&) = delete;
  Interposer& operator=(const Interposer&) = delete;

  const tsc_kvm_ops* ops() const { return &ops_; }

  // Forgets log, faults and hook; the next call is number 1.
  void Reset();

  // The nth call from Reset() on fails with `error` and is not issued.
  void FailCall(uint64_t nth, int error);
  // So do all calls from the nth on.
  void FailFrom(uint64_t nth, int error);
  // The first call with this request on this vCPU is not issued and answers as if it had been done.
  void DropFirst(unsigned long request, uint32_t vcpu_id);
  // Called before each call, with its number, outside of any lock; it may make this very call fail.
  void SetHook(std::function<void(uint64_t nth, const LoggedCall&)> hook);

  std::vector<LoggedCall> Log() const;

 private:
  static int IoctlEntry(void* ctx, int fd, unsigned long request, void* arg);
  static uint64_t RdtscEntry(void* ctx);
  int Ioctl(int fd, unsigned long request, void* arg);
  // The answer to a call that is not to be issued.
  std::optional<int> InsteadOf(uint64_t nth, const LoggedCall& call, const void* arg);

  const tsc_kvm_ops* const kernel_;
  const tsc_kvm_ops ops_;
  std::map<int, uint32_t> ids_;  // by descriptor

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<LoggedCall> log_;
  std::map<uint64_t, int> fail_;
  uint64_t fail_from_ = 0;
  int fail_from_error_ = 0;
  std::optional<std::pair<unsigned long, uint32_t>> drop_;
  std::function<void(uint64_t, const LoggedCall&)> hook_;
};

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_INTERPOSER_H_
