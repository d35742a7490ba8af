// What `tscctl --help` and `tscctl COMMAND --help` teach below the list of options.
//
// Threading: constants.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_HELP_TEXT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_HELP_TEXT_H_

namespace tsc_handoff::tscctl {

inline constexpr char kMainDescription[] =
    R"(tscctl moves a paused VM's TSCs from one KVM host to another, exactly.

Each host runs a tsc-agent. `get` reads the TSC state of a paused VM at one instant, `set` writes it into a paused
VM, and `handoff` does both. The phase between the vCPUs arrives bit-exact; guest time moves on by the time that
really passed, within the error bound that is printed. tscctl never pauses or resumes a VM.)";

inline constexpr char kExitCodes[] =
    R"(Exit codes:
  0  done
  1  the agent refused or failed; nothing was changed unless the message says so
  2  wrong command line
  3  agent not reached; nothing was sent
  4  no answer: deadline, or connection lost in the middle; the message says how to find out what happened
  5  a local file cannot be read, written or used)";

inline constexpr char kCommonOptions[] =
    R"(With every command: --agent ADDRESS, -o table|json, --timeout DURATION; see `tscctl --help`.
)";

inline constexpr char kMainFooter[] =
    R"(Examples:
  tscctl vms                                              VMs of the agent on this host
  tscctl --agent host2:50051 host                         is that host fit for handoffs?
  tscctl handoff vm1 --from host1:50051 --to host2:50051  pause vm1 first; resume it on host2 after
  tscctl handoff --help                                   each command has its own help

Output is for people by default; -o json gives stable JSON on stdout, and an error object on stderr.
Agents: unix:/path/to/agent.sock or HOST:PORT. TSC_AGENT in the environment replaces the default of --agent.
Durations: 500us, 5s, 1m30s. Colours appear on a terminal only, and never when NO_COLOR is set.
)";

inline constexpr char kHostFooter[] =
    R"(Examples:
  tscctl host
  tscctl --agent host2:50051 host -o json

Before a first handoff look at: KVM available, TSC stable, clock trusted and its error bound, TSC scaling (needed
only where the hosts' frequencies differ).
)";

inline constexpr char kVmsFooter[] =
    R"(Examples:
  tscctl vms
  tscctl vms -o json | jq -r '.vms[].vm_id'

The state is what the agent saw last; it does not disturb the VMs to ask.
)";

inline constexpr char kGetFooter[] =
    R"(Examples:
  tscctl get vm1                      show guest TSCs, TSC_ADJUST and clocks
  tscctl get vm1 --out vm1.tsc        keep them for `tscctl set`

Pause the VM first. Changes nothing, and may be repeated. The file is complete or not there, and only its owner may
read it; it is kept for months safely, for it carries a version and a checksum.
)";

inline constexpr char kSetFooter[] =
    R"(Examples:
  tscctl set vm1 --in vm1.tsc --mode elapsed                  as if the VM had stayed: time went on
  tscctl set vm1 --in vm1.tsc --mode exact                    as captured: time stood still (snapshots)
  tscctl set vm1 --in vm1.tsc --mode elapsed --validate-only  would it work?

Pause the VM first. All vCPUs are written and read back, or all are as before.
)";

inline constexpr char kHandoffFooter[] =
    R"(Examples:
  tscctl handoff vm1 --from host1:50051 --to host2:50051
  tscctl handoff vm1 --from host1:50051 --to host2:50051 --to-vm vm1-new --validate-only

Pause the VM on the source, have it created and paused on the destination, then call this, then resume it on the
destination. The source's VM is only read. On a failure the message says in what state both are.

JSON (-o json), one object: vm, to_vm, from, to, mode, validated_only, guest_tsc_khz, vcpu_count; vcpus[] with
vcpu_id, guest_tsc_before_ticks, guest_tsc_after_ticks, offset_before_ticks, offset_after_ticks, tsc_adjust_ticks,
tsc_deadline_ticks and phase_error_ticks (change of phase to the first vCPU); phase_error_ticks (largest between any
two vCPUs, computed by tscctl) and phase_error_ticks_agent (the agent's word); elapsed_ns, elapsed_ticks;
error_bound_ns and error_bound{} with its parts, both null where there is no bound; kvmclock{}; source_reference{},
destination_reference{}; check_us, get_rpc_us, set_rpc_us, handoff_ms (from the capture's start to the apply's end),
total_ms (with connecting and checking); warnings[] with side, code, message; situation. TSC values of 64 bits are
decimal strings, because JSON readers round numbers above 2^53; all other quantities are numbers. What tscctl
computes from the state is null where the state is newer than tscctl.
)";

inline constexpr char kDecodeFooter[] =
    R"(Examples:
  tscctl decode vm1.tsc
  tscctl decode vm1.tsc -o json

Checks version and checksum, asks no agent.
)";

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_HELP_TEXT_H_
