// Control: carries out sim_agent's commands. The protocol, one JSON object per line:
//
// At start, on stdout:
//   {"event":"ready","pid":N,"hosts":[{"name":S,"address":"127.0.0.1:N","port":N,"metrics_port":N,
//     "tsc_khz":N,"vendor":"vmx"|"svm","scaling":B,"wall_error_ns":N,"bound_ns":N}]}
// where metrics_port is 0 without --metrics;
// and in role vmms, when all VMs are registered: {"event":"registered","pid":N,"vms":N,"vcpus":N}
//
// Each line on stdin is answered by one line on stdout with "ok":true, or
// {"ok":false,"error":"SENTENCE"}. 64-bit values are JSON integers (exact in Python), ticks
// unsigned modulo 2^64. HOST is an index, 0 where it is left out; VM is an id.
//
//   {"cmd":"create_vm","host":HOST,"vm":VM,"vcpus":N}  a VM, paused, registered with its host's
//       agent. Optional: "ids":[N,...] instead of "vcpus"; per vCPU in the ids' order, missing ones
//       0: "phases", "tsc_adjust", "deadlines" (ticks, may be negative); "guest_khz":N;
//       "socket":true to register over --vmm-socket instead of in process; "awaits_handoff":true
//       for a destination, which runs only when a handoff has brought it.
//   {"cmd":"destroy_vm","host":HOST,"vm":VM}
//   {"cmd":"pause","host":HOST,"vm":VM}    the VMM says that the VM is paused
//   {"cmd":"resume","host":HOST,"vm":VM}   gets leave to run; every vCPU enters the guest. An error
//       that says why where there is no permit
//   {"cmd":"permits"}     what the VMMs hold: {"ok":true,"vms":[{"host":HOST,"vm":VM,"running":B,
//       "may_run":B,"why":S}]}; "running" is what the VMM was last told to do
//   {"cmd":"block","host":HOST,"vm":VM,"vcpu":ID}  this vCPU executes although the VM is said to be
//       paused: ioctls on it do not return
//   {"cmd":"unblock","host":HOST,"vm":VM,"vcpu":ID}
//   {"cmd":"ports"}       the "hosts" of the start again
//   {"cmd":"clock","host":HOST,"wall_error_ns":N,"bound_ns":N}  changes the wall clock's error
//       and its stated bound (-1: untrusted); each may be left out
//   {"cmd":"truth","vm":VM}  the truth of all VMs of that id on both hosts, at ONE instant of true
//       time and with no agent asked:
//       {"ok":true,"true_ns":N,"vms":[{"host":HOST,"master_clock":B,"kvmclock_ns":N,
//        "kvmclock_read_error_ns":N,"host_tsc_ticks":N,"wall_error_ns":N,
//        "vcpus":[{"id":N,"guest_tsc_ticks":N,"offset_ticks":N,"scaling_ratio":N}]}]}
//       A VM that was handed over keeps its TSCs on the source as long as it is not destroyed, so
//       the difference of the two is the true error of the handoff.
//   {"cmd":"memory"}      {"ok":true,"rss_bytes":N,"rss_peak_bytes":N,"fds":N} of this process
//   {"cmd":"quit"}        ends the process as the end of stdin does
//
// Role vmms knows pause, resume, permits, truth, memory and quit, without "host". pause and resume
// without "vm" are for all VMs: resume for those that may run. Both answer with "count":N. truth is
// of all VMs: {"ok":true,"true_ns":N,"vms":[{"vm":VM,"guest_khz":N,"vcpus":[{"id":N,
// "guest_tsc_ticks":N,"offset_ticks":N,"scaling_ratio":N}]}]}, where true time is CLOCK_MONOTONIC,
// the same in all processes.
//
// Threading: one command at a time.
#ifndef TSC_HANDOFF_TESTS_SIM_AGENT_CONTROL_H_
#define TSC_HANDOFF_TESTS_SIM_AGENT_CONTROL_H_

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/sim_agent/sim_node.h"

namespace tsc_handoff::sim {

class Control {
 public:
  using Json = nlohmann::ordered_json;

  Control(std::shared_ptr<SimTime> time, std::vector<std::unique_ptr<SimNode>> nodes);
  ~Control();

  Json Ready() const;
  // Carries one line out; the answer.
  Json Execute(const std::string& line);
  bool quit() const { return quit_; }

 private:
  using Key = std::pair<size_t, std::string>;

  absl::StatusOr<Json> Dispatch(const Json& command);
  Json Hosts() const;
  absl::StatusOr<size_t> HostOf(const Json& command) const;
  absl::StatusOr<SimGuest*> GuestOf(const Json& command);
  absl::StatusOr<Json> CreateVm(const Json& command);
  absl::StatusOr<Json> DestroyVm(const Json& command);
  absl::StatusOr<Json> Run(const Json& command, bool run);
  absl::StatusOr<Json> Block(const Json& command, bool block);
  Json Permits() const;
  absl::StatusOr<Json> SetClock(const Json& command);
  absl::StatusOr<Json> Truth(const Json& command);
  Json TruthOf(size_t host, const SimGuest& guest, int64_t true_ns) const;

  const std::shared_ptr<SimTime> time_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::map<Key, std::unique_ptr<SimGuest>> guests_;
  bool quit_ = false;
};

// Resident memory and open descriptors of this process.
Control::Json MemoryOfThisProcess();

// Carries out one line of role vmms, but for quit.
Control::Json ExecuteForVmms(const std::vector<std::unique_ptr<SimGuest>>& guests,
                             const std::string& line);

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_AGENT_CONTROL_H_
