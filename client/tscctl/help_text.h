// What `tscctl --help` and `tscctl COMMAND --help` teach below the list of options.
//
// Threading: constants.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_HELP_TEXT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_HELP_TEXT_H_

namespace tsc_handoff::tscctl {

inline constexpr char kMainDescription[] =
    R"(tscctl moves a paused VM's TSCs from one KVM host to another, exactly.

Each host runs a tsc-agent. `handoff` takes the TSC state of a paused VM from one and gives it to the other, so that
at most one host may run the VM. The phase between the vCPUs arrives bit-exact; guest time moves on by the time that
really passed, within the error bound that is printed. Whatever dies on the way, `resume` goes on. `get` and `set` read
and write a VM's TSCs without a handoff. Only migrate-qemu pauses or resumes a VM.)";

inline constexpr char kExitCodes[] =
    R"(Exit codes:
  0  done
  1  the agent refused or failed; nothing was changed unless the message says so
  2  wrong command line
  3  agent not reached; nothing was sent
  4  no answer: deadline, or connection lost in the middle; the message says how to find out what happened
  5  a local file cannot be read, written or used)";

inline constexpr char kCommonOptions[] =
    R"(With every command: --agent ADDRESS, -o table|json, --timeout DURATION, --tls-ca FILE and so on; see `tscctl --help`.
)";

inline constexpr char kMainFooter[] =
    R"(Examples:
  tscctl vms                                              VMs of the agent on this host
  tscctl --agent host2:50051 host                         is that host fit for handoffs?
  tscctl clock host1:50051 host2:50051                    do the clocks of these two hosts agree?
  tscctl handoff vm1 --from host1:50051 --to host2:50051  pause vm1 first; resume it on host2 after
  tscctl handoffs --stuck                                 what has somebody left unfinished?
  tscctl evacuate --from host1:50051 --to host2:50051     all VMs of a host, 16 at a time
  tscctl migrate-qemu --help                              a whole live migration of a stock QEMU's VM
  tscctl top --agent host1:50051,host2:50051              watch hosts, VMs and handoffs, live
  tscctl contexts --help                                  names for all these addresses
  tscctl handoff --help                                   each command has its own help

Output is for people by default; -o json gives stable JSON on stdout, and an error object on stderr.
Agents: unix:/path/to/agent.sock or HOST:PORT. TSC_AGENT in the environment replaces the default of --agent.
Agents on other hosts are reached by mutual TLS, with --tls-ca, --tls-cert and --tls-key before or after the command,
or TSC_TLS_CA, TSC_TLS_CERT, TSC_TLS_KEY and TSC_TLS_SERVER_NAME in the environment.
Durations: 500us, 5s, 1m30s. Colours appear on a terminal only, and never when NO_COLOR is set.
)";

inline constexpr char kHostFooter[] =
    R"(Examples:
  tscctl host
  tscctl --agent host2:50051 host -o json

Before a first handoff look at: KVM available, TSC stable, clock trusted and its error bound, TSC scaling (needed
only where the hosts' frequencies differ), peer address (where the destination's agent will probe this host's clock).
)";

inline constexpr char kClockFooter[] =
    R"(Examples:
  tscctl clock                                       how good is this host's clock?
  tscctl --agent host2:50051 clock                   ... that host's?
  tscctl clock host1:50051 host2:50051               do they agree? host1's agent probes host2's
  tscctl clock unix:/run/tsc-handoff/agent.sock host2:50051 --peer 10.0.0.2:50051

Comparing measures how far the two clocks are apart, whatever the hosts claim of them, and says whether both claims
can be true. Changes nothing. Exit code 0 when they agree; 1 when they disagree, or when a host claims nothing, so
that there is no verdict. What was found stands on stdout then, too. For one clock it is 0 whatever the clock is like.

JSON (-o json) of one clock: agent, host_name, trusted, status (STATUS_SYNCHRONISED, STATUS_FREE_RUNNING,
STATUS_DISRUPTED, or STATUS_UNSPECIFIED: nothing is known), error_bound_ns (null unless trusted), age_ns (since its
source stated the bound; 0 with trusted false: never), source, tai_offset_s (0: not known), leap_second (one is
near), realtime_ns, untrusted_reason. Of two clocks: verdict (VERDICT_AGREE, VERDICT_DISAGREE, VERDICT_NO_CLAIM),
text (the verdict in words), probe{} with offset_ns (A's clock minus B's), offset_error_ns, round_trip_ns, rounds,
duration_ns; allowed_ns (how far apart they may be; null without both claims), probed_at, and both hosts' clocks as
local{} (A's) and peer{} (B's), where host_name is null if that agent could not be asked from here.
)";

inline constexpr char kVmsFooter[] =
    R"(Examples:
  tscctl vms
  tscctl vms -o json | jq -r '.vms[].vm_id'

The state is what the agent saw last; it does not disturb the VMs to ask. PORT is how the agent reaches the VM: its
VMM registered (cooperative, in-process), the agent attaches to it (attached), or it only sees it (none). HANDOFF says
whether get, set and handoff are possible, once the VM is paused. PHASE SPREAD is how far apart its vCPUs' TSCs are,
and EQUAL whether they have one offset and ratio, which KVM's master clock needs; both as seen in debugfs, "-" where
they are not.
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

  tscctl set vm1 --in vm1.tsc --mode elapsed --source-agent host1:50051  measure host1's clock, too

Pause the VM first. All vCPUs are written and read back, or all are as before. Without --source-agent elapsed time
rests on what both hosts claim of their clocks, unless the state was captured on the same host.

JSON (-o json): the agent's SetTscStateResponse with the names of tsc_agent.proto, 64-bit integers as decimal strings;
among them elapsed_ns, elapsed_basis (ELAPSED_BASIS_CLOCKS, ELAPSED_BASIS_CLOCKS_AND_PROBE,
ELAPSED_BASIS_SAME_HOST_TSC), error_bound{}, commit_wait_ns, rate_error_ppm and probe{} with offset_ns,
offset_error_ns, round_trip_ns, rounds, duration_ns. error_bound and probe are null where there is none.
)";

inline constexpr char kHandoffFooter[] =
    R"(Examples:
  tscctl handoff vm1 --from host1:50051 --to host2:50051
  tscctl handoff vm1 --from host1:50051 --to host2:50051 --to-vm vm1-new --validate-only

Pause the VM on the source, have it created and paused on the destination, then call this, then resume it on the
destination. From the capture on the VM may not run on the source; from the source's commit on the handoff goes forward
only, and then the VM may run on the destination. A destination that refuses the state ends it: the handoff is aborted,
and the VM may be resumed on the source. A lost answer is asked for again; if it does not come, the message says how to
go on. On a failure the message says in what state both are. With --validate-only nothing is begun.

With --mode elapsed the destination's agent probes the source's clock, at the address that the source's agent says of
itself (its --peer-address) or that --source-agent gives. Clocks that contradict their hosts' claims are refused, and
the error bound shrinks to what was measured where that is tighter. Look at them beforehand with `tscctl clock A B`.

JSON (-o json), one object: handoff_id, outcome (moved; of a resumed one also aborted, where its source had given it
up), epoch (all three null with --validate-only), vm, to_vm, from, to, mode, validated_only, guest_tsc_khz, vcpu_count;
vcpus[] with vcpu_id, guest_tsc_before_ticks, guest_tsc_after_ticks, offset_before_ticks, offset_after_ticks,
tsc_adjust_ticks, tsc_deadline_ticks and phase_error_ticks (change of phase to the first vCPU); phase_error_ticks
(largest between any two vCPUs, computed by tscctl) and phase_error_ticks_agent (the agent's word); elapsed_ns,
elapsed_ticks; elapsed_basis (by what that was reckoned: ELAPSED_BASIS_CLOCKS, ELAPSED_BASIS_CLOCKS_AND_PROBE,
ELAPSED_BASIS_SAME_HOST_TSC, or ELAPSED_BASIS_UNSPECIFIED in exact mode); commit_wait_ns (waited until it was certain
that time had passed); rate_error_ppm (by how much faster the guest runs where KVM does not scale); source_agent
(whom the destination was to probe, or null); probe{} with offset_ns (the destination's clock minus the source's),
offset_error_ns, round_trip_ns, rounds, duration_ns, or null where nothing was probed; error_bound_ns and
error_bound{} with its parts, both null where there is no bound; kvmclock{}; source_reference{},
destination_reference{}; check_us, get_rpc_us, set_rpc_us, commits_us, handoff_ms (from the capture's start to the
last commit's end), total_ms (with connecting and checking); warnings[] with side, code, message; situation. TSC
values of 64 bits are decimal strings, because JSON readers round numbers above 2^53; all other quantities are numbers.
What tscctl computes from the state is null where the state is newer than tscctl.
)";

inline constexpr char kResumeFooter[] =
    R"(Examples:
  tscctl resume 7f0c... --from host1:50051 --to host2:50051

Asks both agents what became of the handoff, and goes on from there: forward, unless its source has given it up; then
the destination is told. May be repeated, and run by anybody. The apply's options count only if the state has not been
applied yet. Without the id look at `tscctl handoffs --pending` of both agents.

JSON (-o json): as of `tscctl handoff`; what this run did not come to is empty or 0. Exit code 0 whether it is finished
or undone now, which outcome tells: moved or aborted.
)";

inline constexpr char kAbortFooter[] =
    R"(Examples:
  tscctl abort 7f0c... --from host1:50051 --to host2:50051

Gives the VM back to the source, and the destination what it had. Refused once the source has released the VM: from
there on a handoff goes forward only (`tscctl resume`). May be repeated.

JSON (-o json): as of `tscctl handoff`, with the outcome aborted.
)";

inline constexpr char kHandoffsFooter[] =
    R"(Examples:
  tscctl handoffs                                  all that this host's agent remembers, the last begun first
  tscctl --agent host2:50051 handoffs --pending    what is not finished there
  tscctl handoffs --stuck                          what nobody goes on with; its VMs stay paused

States of a source: CAPTURED (the VM may not run), RELEASED (it left), ABORTED (it stays). Of a destination: EMPTY
(begun), APPLYING, APPLIED (the VM has the state, and may not run yet), ACTIVE (it arrived), ABORTED.

JSON (-o json): handoffs[] with the names of Handoff in tsc_agent.proto, bytes in base64.
)";

inline constexpr char kReclaimFooter[] =
    R"(Examples:
  tscctl --agent host1:50051 reclaim vm1 --from host2:50051     it was handed to host2, and came back by other means
  tscctl --agent host1:50051 reclaim vm1 --runs-nowhere-else    host2 is lost; vm1 was restored on host1

A VM that was handed off stays barred on its old host until a handoff brings it back. Where it came back without one (a
plain migration, a backup), this overrules the handoff: from then on the VM may run here, and be handed off again.
With --from both agents do it together, and at most one host lets the VM run whatever fails: the other one bars the VM
first, and refuses while the VM is there. DANGER: with --runs-nowhere-else nobody checks your word. Be sure that the
other host is off, or has been told `tscctl disown`, before you give it; if it comes back, disown the VM there before
any VMM starts. May be repeated.

JSON (-o json): vm, handoff_id, epoch, repeated, disowned_by (the agent, or null).
)";

inline constexpr char kDisownFooter[] =
    R"(Examples:
  tscctl --agent host2:50051 disown vm1 --handoff 6f1c20d4-0b7e-4b0e-8f6c-1f5a0c5d9b21

For a VM that left this host without a handoff: its agent bars it from then on, and lets a later handoff bring it
again. Refused while the VM is here. It only takes a permit away, so it cannot do harm. May be repeated.

JSON (-o json): vm, handoff_id, epoch, repeated.
)";

inline constexpr char kDrainFooter[] =
    R"(Examples:
  tscctl evacuate --from host1:50051 --to host2:50051 && tscctl --agent host1:50051 drain
  tscctl drain --wait 0s                           do not wait, say what is open
  tscctl undrain                                   and back

A draining agent begins no handoff, neither as source nor as destination (AGENT_DRAINING), and is NOT_SERVING to
health checks; what is open goes on. Stopping the agent (SIGTERM) drains it too, for --drain-limit. Draining ends with
undrain or the agent's restart. Exit code 1 when handoffs are still open after --wait.

JSON (-o json): open_handoffs.
)";

inline constexpr char kReloadFooter[] =
    R"(Examples:
  tscctl reload                                    after editing /etc/tsc-handoff/agent.yaml
  tscctl --agent host2:50051 reload

What may change while the agent runs takes effect for what begins afterwards; what needs a restart is named. A file
with a fault changes nothing, and the answer names file and line. The TLS certificate is read again, too. `tsc-agent --print-config` prints all settings.

JSON (-o json): changed[], needs_restart[], as "KEY: VALUE"; without a value the setting is at its default.
)";

inline constexpr char kEvacuateFooter[] =
    R"(Examples:
  tscctl evacuate --from host1:50051 --to host2:50051,host3:50051 --parallel 32

Hands over every VM that may run on the source and is registered at one of the destinations under the same id, paused
on both. A VM that waits at several destinations goes where fewer go. One that runs, or waits nowhere, is left alone and
listed; so is one that is in a handoff with a host not named here. An agent that is away for some seconds, since it is
started again, is awaited; with one that stays away nothing more is begun.

Interrupted (Ctrl-C once), it begins no further VM, brings those in progress to an end and says what is left; twice, it
leaves those in progress as they are after the calls that are under way (--timeout), and lists them; a third time ends
it on the spot. Always, and after a crash, run the same command again: what was begun is resumed first, from what the
agents remember. Exit code 0 when every VM was handed over; 1 when one was not: it stands in the table with the reason.

Outcomes: moved; aborted (it stays, and may run on the source), pending (begun and not finished: it may run nowhere),
skipped (not begun).

JSON (-o json): moved, aborted, pending, skipped (numbers of VMs), not_begun, seconds, and vms[] with vm, to, outcome,
handoff_id, reason, message, next_step. Those not begun since it was interrupted are counted only.
)";

inline constexpr char kTopFooter[] =
    R"(Examples:
  tscctl top                                        the agent on this host
  tscctl top --agent host1:50051,host2:50051        two hosts together
  NO_COLOR=1 tscctl top                             without colours

Hosts with their clocks, handoffs in progress, VMs. What is wrong comes first, marked with ! and said in words in the
last column: an agent that is away, a clock that is not trusted, a handoff that nobody goes on with. Asks the agents
only, changes nothing, and does not disturb the VMs. A handoff that has ended stays for a minute; an agent that does not
answer is asked on, and what it said last stays, fainter.

Keys: Tab the next pane, arrows select, Enter all that is known of the selected row and how to go on with it, / shows
only rows with these words, s sorts by the next column, r the other way round, p pauses, ? explains all, q quits. Needs
a terminal of any size, better of 80x24. For scripts use `tscctl watch`, or `tscctl vms` with -o json.
)";

inline constexpr char kWatchFooter[] =
    R"(Examples:
  tscctl watch                                                      what happens at this host's agent
  tscctl watch --agent host1:50051,host2:50051 --vm vm1             one VM's handoffs between two hosts
  tscctl watch --json | jq -c 'select(.event == "undecided")'       only what somebody must look after
  tscctl watch | while read -r time agent event rest; do ...; done  a script's loop

One line for each event, at once, until Ctrl-C or until nobody reads any more; both end it with exit code 0. An agent
that is away is asked on; when it is back, handoffs that ended meanwhile are told.

Events: agent_found, agent_lost (it does not answer, and why), clock (its status or trust has changed), handoff (a side
has another state), undecided (nobody goes on with a handoff; tscctl resume or abort it). How things are when the watch
begins is told the same way, with initial=yes.

A line has the time, the agent's address, the event, and then key=value, in quotes where there is a blank in it.
JSON (--json), one object on each line: time, event, agent, host_name, initial; with agent_found agent_version,
agent_id, vm_count; with agent_lost reason, message; with clock clock{} with status, trusted, error_bound_ns (null
unless trusted), age_ns, source, untrusted_reason; with handoff and undecided handoff{} with handoff_id, vm, side,
state, pending, epoch, destination_vm, source_agent_id, destination_agent_id, begun_at_ns, changed_at_ns, undecided,
silent_ns, vm_lost; with handoff also before, the state that was told before, or null.
)";

inline constexpr char kMigrateQemuFooter[] =
    R"(Examples:
  on host2:  qemu-system-x86_64 ... -name guest=vm1 -S -incoming tcp:10.0.0.2:4444 -qmp unix:/run/vm1.qmp,server=on,wait=off
  ssh -L 4450:/run/vm1.qmp host2
  tscctl migrate-qemu --from unix:/run/tsc-handoff/agent.sock --to host2:50051 --vm vm1 --from-qmp unix:/run/vm1.qmp \
         --to-qmp 127.0.0.1:4450 --migrate-uri tcp:10.0.0.2:4444

QEMU and the guest know nothing of it; both agents run with --attach=on, or the VMs are registered. QEMU moves memory and
devices while the guest runs; then the vCPUs stand on both sides, their TSCs are handed over, and only then the
destination gets its `cont`: the guest's TSC has counted the downtime, which QEMU alone leaves out, and the phase between
its vCPUs is exact. What QEMU writes at `cont` itself, the guest's kvmclock, stays QEMU's (docs/qemu.md).

A monitor is unix:/path/to/socket or a port of the loopback interface; QMP has no authentication. Nothing is begun
unless both QEMUs and both agents are fit for it: the source's VM runs (or is paused), the destination waits for one with
as many vCPUs, both are what --vm names, on KVM, within reach of their agents.

Whatever fails before the source has released the VM ends with the VM on the source: QEMU's migration is cancelled, or
the handoff is aborted, the destination's QEMU ended and the source's VM resumed. Afterwards it goes forward only. Ctrl-C
once cancels the migration, or lets a handoff that has begun come to its end; twice leaves all as it is. Where an agent
does not answer, the VM stays paused on both sides, and the message says how to go on. After success the source's QEMU is
ended, unless --keep-source; its copy of the VM must never run again. --timeout is also that of a monitor's answers.

JSON (-o json), one object: outcome (moved), plain, vm, to_vm (null with --plain), downtime_ms (from the source's STOP to
the destination's RESUME as seen here; null for a VM that was paused), added_downtime_ms (of it, from the moment when both
QEMUs were done), transfer_ms, transferred_bytes, qemu_downtime_ms (QEMU's own figure), handoff{} (as of `tscctl handoff`,
or null with --plain). On a failure the error object of -o json has the reason and, as situation, where the VM is.
)";

inline constexpr char kContextsFooter[] =
    R"(Examples:
  tscctl contexts --example > ~/.config/tscctl/config.yaml    begin with a file that explains itself
  tscctl contexts                                             which are there? * marks the one in force
  tscctl use-context production                               from now on
  tscctl --context lab top                                    this once
  tscctl handoff vm1 --from host1 --to host2                  names of the context's hosts

A context has any option of tscctl that stands before the command, and names for the addresses of hosts. The command
line counts before the environment, and that before the context. The file is $TSCCTL_CONFIG, or else
tscctl/config.yaml in $XDG_CONFIG_HOME or ~/.config; --config names another one. use-context changes one line of it.

JSON (-o json) of `tscctl contexts`: file, contexts[] with name, in_force, agent (null where it has none), hosts{}.
)";

inline constexpr char kDecodeFooter[] =
    R"(Examples:
  tscctl decode vm1.tsc
  tscctl decode vm1.tsc -o json

Checks version and checksum, asks no agent.
)";

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_HELP_TEXT_H_
