// What operators look at: the one source of the Grafana dashboards and of the Prometheus console pages.
//
// A view has sections, a section has panels, a panel has queries. In a query `$instance` is the host that was chosen,
// `$__rate_interval` a window that holds some scrapes, `$__range` the time range that is shown. A legend's `{label}` stands
// for a label's value.
//
// Kinds of panels:
//   stat          one number, with a sparkline; `of` is what it is a part of, `bad` says when it is bad
//   graph         lines over time; a query with `limit: true` is a limit, drawn dashed
//   hosts         a table with a row for each host and a column for each query
//   steps         what happens one after the other, to scale; each query has a `lane`, and the color of what is done
//   distribution  a histogram's buckets over the range
//   table         rows of one label set, a column for each query

export const JOB = 'tsc-agent';
export const FIRING = 'ALERTS{alertname=~"Tsc.*", alertstate="firing"}';

const up = `up{job="${JOB}"}`;
const arrived = 'tsc_agent_handoff_changes_total{side="destination", state="ACTIVE"';

const rate = (metric, labels, by) => `sum by (${by}) (rate(${metric}{${labels}}[$__rate_interval]))`;
const quantile = (q, metric, labels, by = '') =>
  `histogram_quantile(${q}, ${rate(`${metric}_bucket`, labels, by ? `${by}, le` : 'le')})`;
const mean = (metric, labels) =>
  `sum(increase(${metric}_sum{${labels}}[$__range])) / sum(increase(${metric}_count{${labels}}[$__range]))`;

// Both quantiles of a histogram, as two lines.
const quantiles = (metric, labels) => [
  { expr: quantile(0.5, metric, labels), legend: 'half are faster' },
  { expr: quantile(0.99, metric, labels), legend: '99 % are faster' },
];

const fleet = {
  id: 'tsc-fleet',
  title: 'Fleet',
  lead: 'All hosts that run tsc-agent: is anything wrong, are the clocks good enough, do handoffs succeed?',
  sections: [
    {
      panels: [
        { id: 'hosts-up', kind: 'stat', title: 'Hosts up', unit: 'count', bad: 'below-of',
          queries: [{ expr: `sum(${up})` }, { of: true, expr: `count(${up})` }] },
        { id: 'clocks', kind: 'stat', title: 'Clocks trusted', unit: 'count', bad: 'below-of',
          queries: [{ expr: 'sum(tsc_agent_clock_trusted)' }, { of: true, expr: 'count(tsc_agent_clock_trusted)' }] },
        { id: 'worst-bound', kind: 'stat', title: 'Worst clock error bound', unit: 's', bad: 'above-limit',
          queries: [{ expr: 'max(tsc_agent_clock_error_bound_seconds)' },
            { limit: true, expr: 'min(tsc_agent_error_bound_limit_seconds)' }] },
        { id: 'arrived', kind: 'stat', title: 'VMs handed over', unit: 'count', period: true,
          queries: [{ expr: `sum(increase(${arrived}}[$__range]))` },
            { spark: true, expr: `sum(rate(${arrived}}[$__rate_interval]))` }] },
        { id: 'undecided', kind: 'stat', title: 'Undecided handoffs', unit: 'count', bad: 'above-zero',
          queries: [{ expr: 'sum(tsc_agent_handoffs_undecided)' }] },
        { id: 'vms', kind: 'stat', title: 'VMs', unit: 'count', queries: [{ expr: 'sum(tsc_agent_vms)' }] },
      ],
    },
    {
      title: 'Hosts',
      panels: [
        { id: 'hosts', kind: 'hosts', title: 'Hosts',
          queries: [
            { id: 'up', title: 'Agent', unit: 'up', expr: up },
            { id: 'status', title: 'Clock', unit: 'label:status', expr: 'tsc_agent_clock_status == 1' },
            { id: 'trusted', title: 'Trusted', unit: 'trusted', hidden: true, expr: 'tsc_agent_clock_trusted' },
            { id: 'bound', title: 'Clock error bound', unit: 's', limit: 'limit', expr: 'tsc_agent_clock_error_bound_seconds' },
            { id: 'limit', title: 'Limit', unit: 's', hidden: true, expr: 'tsc_agent_error_bound_limit_seconds' },
            { id: 'vms', title: 'VMs', unit: 'count', expr: 'sum by (instance) (tsc_agent_vms)' },
            { id: 'pending', title: 'Pending', unit: 'count', expr: 'sum by (instance) (tsc_agent_handoffs_pending)' },
            { id: 'undecided', title: 'Undecided', unit: 'count', bad: 'above-zero', expr: 'tsc_agent_handoffs_undecided' },
            { id: 'failures', title: 'Failed, 10 min', unit: 'count', bad: 'above-zero',
              expr: 'sum by (instance) (instance_side_phase_reason:tsc_agent_handoff_phase_failures:increase10m)' },
            { id: 'journal', title: 'Journal p99', unit: 's', expr: 'instance:tsc_agent_journal_commit_seconds:p99_5m' },
            { id: 'version', title: 'Version', unit: 'label:version', expr: 'tsc_agent_build_info' },
          ] },
      ],
    },
    {
      title: 'Handoffs',
      panels: [
        { id: 'rate', kind: 'graph', title: 'VMs handed over', unit: 'per-s', help: 'By the host at which they arrived.',
          queries: [{ expr: rate('tsc_agent_handoff_changes_total', 'side="destination", state="ACTIVE"', 'instance'), legend: '{instance}' }] },
        { id: 'failures', kind: 'graph', title: 'Failed phases, by reason', unit: 'per-s', empty: 'No phase of a handoff failed.',
          help: 'Callers\' own mistakes included; the alerts leave these out.',
          queries: [{ expr: `${rate('tsc_agent_handoff_phases_total', 'result="error"', 'reason')} > 0`, legend: '{reason}' }] },
        { id: 'elapsed', kind: 'graph', title: 'From capture to apply', unit: 's', scale: 'log',
          help: 'By so much guest time moved on: the part of the blackout that a handoff is about.',
          queries: quantiles('tsc_agent_apply_elapsed_seconds', '') },
        { id: 'phases', kind: 'graph', title: 'Time in the agents, by phase', unit: 's', scale: 'log', help: '99 % are faster.',
          queries: [{ expr: quantile(0.99, 'tsc_agent_handoff_phase_seconds', 'phase!="abort"', 'side, phase'), legend: '{side} {phase}' }] },
      ],
    },
    {
      title: 'Time',
      panels: [
        { id: 'bounds', kind: 'graph', title: 'Clock error bound', unit: 's', help: 'Of each host; absent while its clock is not trusted.',
          queries: [{ expr: 'tsc_agent_clock_error_bound_seconds', legend: '{instance}' },
            { limit: true, expr: 'min(tsc_agent_error_bound_limit_seconds)', legend: 'limit (--max-error)' }] },
        { id: 'stated', kind: 'graph', title: 'Stated error of guest time', unit: 's', help: 'The bound that each handoff promised.',
          queries: [{ expr: quantile(0.5, 'tsc_agent_apply_error_bound_seconds', ''), legend: 'half are better' },
            { expr: quantile(0.99, 'tsc_agent_apply_error_bound_seconds', ''), legend: '99 % are better' },
            { limit: true, expr: 'min(tsc_agent_error_bound_limit_seconds)', legend: 'limit (--max-error)' }] },
      ],
    },
  ],
};

const I = 'instance="$instance"';
const host = {
  id: 'tsc-host',
  title: 'Host',
  lead: 'One host: its clock, its VMs, its part in handoffs, its journal and its RPCs.',
  variable: 'instance',
  sections: [
    {
      panels: [
        { id: 'trusted', kind: 'stat', title: 'Clock', unit: 'trusted', bad: 'zero',
          queries: [{ expr: `tsc_agent_clock_trusted{${I}}` }] },
        { id: 'bound', kind: 'stat', title: 'Clock error bound', unit: 's', bad: 'above-limit',
          queries: [{ expr: `tsc_agent_clock_error_bound_seconds{${I}}` },
            { limit: true, expr: `tsc_agent_error_bound_limit_seconds{${I}}` }] },
        { id: 'age', kind: 'stat', title: 'Clock last heard of', unit: 's', queries: [{ expr: `tsc_agent_clock_age_seconds{${I}}` }] },
        { id: 'vms', kind: 'stat', title: 'VMs', unit: 'count', queries: [{ expr: `sum(tsc_agent_vms{${I}})` }] },
        { id: 'journal', kind: 'stat', title: 'Journal', unit: 'usable', bad: 'zero', queries: [{ expr: `tsc_agent_journal_usable{${I}}` }] },
        { id: 'uptime', kind: 'stat', title: 'Agent up for', unit: 's', nospark: true,
          queries: [{ expr: `time() - process_start_time_seconds{job="${JOB}", ${I}}` }] },
      ],
    },
    {
      title: 'Clock',
      panels: [
        { id: 'bound-graph', kind: 'graph', title: 'Error bound', unit: 's', help: 'Absent while the clock is not trusted.',
          queries: [{ expr: `tsc_agent_clock_error_bound_seconds{${I}}`, legend: 'bound' },
            { limit: true, expr: `tsc_agent_error_bound_limit_seconds{${I}}`, legend: 'limit (--max-error)' }] },
        { id: 'peers', kind: 'graph', title: 'Distance from other hosts\' clocks', unit: 's', empty: 'No other host\'s clock was probed.',
          help: 'By the last probe of each; this host minus that one.',
          queries: [{ expr: `tsc_agent_peer_clock_offset_seconds{${I}}`, legend: '{peer}' }] },
        { id: 'peer-error', kind: 'graph', title: 'Uncertainty of these distances', unit: 's', empty: 'No other host\'s clock was probed.',
          help: 'Half the shortest round trip, and what rates may add.',
          queries: [{ expr: `tsc_agent_peer_clock_offset_error_seconds{${I}}`, legend: '{peer}' }] },
        { id: 'drift', kind: 'graph', title: 'Frequency correction', unit: 'ratio', help: 'The oscillator\'s drift, as its discipline found it.',
          queries: [{ expr: `tsc_agent_clock_frequency_correction_ratio{${I}}`, legend: 'correction' }] },
      ],
    },
    {
      title: 'Handoffs',
      panels: [
        { id: 'phases', kind: 'graph', title: 'Phases that succeeded', unit: 'per-s',
          queries: [{ expr: rate('tsc_agent_handoff_phases_total', `${I}, result="ok", phase!="abort"`, 'side, phase'), legend: '{side} {phase}' }] },
        { id: 'failures', kind: 'graph', title: 'Failures, by reason', unit: 'per-s', empty: 'No phase of a handoff failed here.',
          queries: [{ expr: `${rate('tsc_agent_handoff_phases_total', `${I}, result="error"`, 'phase, reason')} > 0`, legend: '{phase}: {reason}' }] },
        { id: 'pending', kind: 'graph', title: 'Pending handoffs', unit: 'count', help: 'Each keeps a VM paused.',
          queries: [{ expr: `tsc_agent_handoffs_pending{${I}}`, legend: '{state}' }] },
        { id: 'phase-time', kind: 'graph', title: 'Time by phase', unit: 's', scale: 'log', help: '99 % are faster.',
          queries: [{ expr: quantile(0.99, 'tsc_agent_handoff_phase_seconds', `${I}, phase!="abort"`, 'side, phase'), legend: '{side} {phase}' }] },
      ],
    },
    {
      title: 'VMs and KVM',
      panels: [
        { id: 'vm-states', kind: 'graph', title: 'VMs, by state last seen', unit: 'count', help: 'The agent asks a VM only when somebody asks for it.',
          queries: [{ expr: `sum by (state) (tsc_agent_vms{${I}})`, legend: '{state}' }] },
        { id: 'vm-ports', kind: 'graph', title: 'VMs, by port', unit: 'count', help: 'How the agent reaches them.',
          queries: [{ expr: `sum by (port) (tsc_agent_vms{${I}})`, legend: '{port}' }] },
        { id: 'spread', kind: 'graph', title: 'TSCs apart, of observed VMs', unit: 'ticks', help: 'The largest difference between two vCPUs of one VM.',
          queries: [{ expr: `tsc_agent_observed_phase_spread_max_ticks{${I}}`, legend: 'largest spread' }] },
        { id: 'trouble', kind: 'graph', title: 'What should never happen', unit: 'count',
          help: 'Counted since the agent\'s start: phase lost or changed, values not kept, rollbacks, VMs without permit.',
          queries: [
            { expr: `tsc_agent_phase_errors_total{${I}}`, legend: 'phase lost in a handoff' },
            { expr: `tsc_agent_phase_changes_total{${I}}`, legend: 'phase changed on its own' },
            { expr: `sum(tsc_agent_readback_failures_total{${I}})`, legend: 'value not kept' },
            { expr: `sum(tsc_agent_rollbacks_total{${I}})`, legend: 'rollback' },
            { expr: `tsc_agent_permit_violations_total{${I}}`, legend: 'ran without a permit' },
          ] },
      ],
    },
    {
      title: 'Journal and RPCs',
      panels: [
        { id: 'journal-time', kind: 'graph', title: 'Journal commits', unit: 's', scale: 'log', help: 'Each with a sync of the disk.',
          queries: quantiles('tsc_agent_journal_commit_seconds', I) },
        { id: 'rpcs', kind: 'graph', title: 'RPCs, by method', unit: 'per-s',
          queries: [{ expr: rate('grpc_server_handled_total', `job="${JOB}", ${I}`, 'grpc_method'), legend: '{grpc_method}' }] },
        { id: 'rpc-errors', kind: 'graph', title: 'RPCs refused, by code', unit: 'per-s', empty: 'No RPC was refused.',
          queries: [{ expr: `${rate('grpc_server_handled_total', `job="${JOB}", ${I}, grpc_code!="OK"`, 'grpc_code')} > 0`, legend: '{grpc_code}' }] },
        { id: 'rpc-time', kind: 'graph', title: 'Time by method', unit: 's', scale: 'log', help: '99 % are faster.',
          queries: [{ expr: quantile(0.99, 'grpc_server_handling_seconds', `job="${JOB}", ${I}`, 'grpc_method'), legend: '{grpc_method}' }] },
      ],
    },
  ],
};

const A = 'instance=~"$instance"';
const step = (phase, name) => mean('tsc_agent_handoff_step_seconds', `${A}, phase="${phase}", step="${name}"`);
const phase = (side, name) => mean('tsc_agent_handoff_phase_seconds', `${A}, side="${side}", phase="${name}"`);
const perApply = (metric) =>
  `sum(increase(${metric}_sum{${A}}[$__range])) / sum(increase(tsc_agent_handoff_phase_seconds_count{${A}, phase="apply"}[$__range]))`;
const stepPerApply = (name) =>
  `sum(increase(tsc_agent_handoff_step_seconds_sum{${A}, phase="apply", step="${name}"}[$__range])) / `
  + `sum(increase(tsc_agent_handoff_phase_seconds_count{${A}, phase="apply"}[$__range]))`;
const applied = ['read', 'probe', 'write'].map((name) => `(${stepPerApply(name)})`).join(' - ');

const handoff = {
  id: 'tsc-handoff',
  title: 'Handoff',
  lead: 'The anatomy of a handoff: what the two agents spend its time with, and how exact it arrives.',
  variable: 'instance',
  all: true,
  sections: [
    {
      title: 'What one handoff takes, on average',
      panels: [
        { id: 'steps', kind: 'steps', title: 'Step by step', unit: 's', empty: 'No handoff was made in this time.',
          help: 'To scale, one after the other. What the network, the orchestrator and the copy of memory take is not in it.',
          queries: [
            { lane: 'Source: capture', color: 0, legend: 'read all vCPUs', expr: step('capture', 'read') },
            { lane: 'Source: capture', color: 1, legend: 'seal, journal', expr: `(${phase('source', 'capture')}) - (${step('capture', 'read')})` },
            { lane: 'Destination: apply', color: 0, legend: 'read what the VM has', expr: stepPerApply('read') },
            { lane: 'Destination: apply', color: 3, legend: 'probe the source\'s clock', expr: stepPerApply('probe') },
            { lane: 'Destination: apply', color: 4, legend: 'wait for certainty', expr: perApply('tsc_agent_commit_wait_seconds') },
            { lane: 'Destination: apply', color: 2, legend: 'write, read back', expr: stepPerApply('write') },
            { lane: 'Destination: apply', color: 1, legend: 'reckon, journal twice',
              expr: `clamp_min((${phase('destination', 'apply')}) - ${applied} - (${perApply('tsc_agent_commit_wait_seconds')}), 0)` },
            { lane: 'Source: commit', color: 1, legend: 'release, journal', expr: phase('source', 'commit') },
            { lane: 'Destination: commit', color: 1, legend: 'journal, permit to run', expr: phase('destination', 'commit') },
          ] },
      ],
    },
    {
      title: 'How exact',
      panels: [
        { id: 'phase-errors', kind: 'stat', title: 'Handoffs that lost the phase', unit: 'count', bad: 'above-zero', period: true,
          queries: [{ expr: `sum(increase(tsc_agent_phase_errors_total{${A}}[$__range]))` }] },
        { id: 'last-phase-error', kind: 'stat', title: 'Phase error of the last', unit: 'ticks', bad: 'above-zero',
          queries: [{ expr: `max(tsc_agent_last_apply_phase_error_ticks{${A}})` }] },
        { id: 'last-spread', kind: 'stat', title: 'Phase spread of the last', unit: 'ticks',
          queries: [{ expr: `max(tsc_agent_last_apply_phase_spread_ticks{${A}})` }] },
        { id: 'last-bound', kind: 'stat', title: 'Error bound of the last', unit: 's', bad: 'above-limit',
          queries: [{ expr: `max(tsc_agent_last_apply_error_bound_seconds{${A}})` },
            { limit: true, expr: `min(tsc_agent_error_bound_limit_seconds{${A}})` }] },
        { id: 'last-elapsed', kind: 'stat', title: 'Capture to apply of the last', unit: 's',
          queries: [{ expr: `max(tsc_agent_last_apply_elapsed_seconds{${A}})` }] },
        { id: 'last-rate', kind: 'stat', title: 'Rate error of the last', unit: 'ratio',
          queries: [{ expr: `max(tsc_agent_last_apply_rate_error_ratio{${A}})` }] },
      ],
    },
    {
      title: 'How they are spread',
      panels: [
        { id: 'elapsed', kind: 'distribution', title: 'From capture to apply', unit: 's', help: 'Guest time moved on by this.',
          queries: [{ expr: `sum by (le) (increase(tsc_agent_apply_elapsed_seconds_bucket{${A}}[$__range]))` }] },
        { id: 'bound', kind: 'distribution', title: 'Stated error bound', unit: 's', help: 'Guest time is wrong by no more than this.',
          queries: [{ expr: `sum by (le) (increase(tsc_agent_apply_error_bound_seconds_bucket{${A}}[$__range]))` }] },
        { id: 'wait', kind: 'distribution', title: 'Wait for certainty', unit: 's', help: 'Until it was certain that time had passed.',
          queries: [{ expr: `sum by (le) (increase(tsc_agent_commit_wait_seconds_bucket{${A}}[$__range]))` }] },
        { id: 'journal', kind: 'distribution', title: 'Journal commits', unit: 's', help: 'Five to a handoff.',
          queries: [{ expr: `sum by (le) (increase(tsc_agent_journal_commit_seconds_bucket{${A}}[$__range]))` }] },
      ],
    },
    {
      title: 'Phase by phase',
      panels: [
        { id: 'phases', kind: 'table', title: 'Phases', rows: ['side', 'phase'],
          queries: [
            { id: 'count', title: 'Succeeded', unit: 'count', expr: `sum by (side, phase) (increase(tsc_agent_handoff_phases_total{${A}, result="ok"}[$__range]))` },
            { id: 'failed', title: 'Failed', unit: 'count', bad: 'above-zero', expr: `sum by (side, phase) (increase(tsc_agent_handoff_phases_total{${A}, result="error"}[$__range]))` },
            { id: 'p50', title: 'Half are faster', unit: 's', expr: `histogram_quantile(0.5, sum by (side, phase, le) (increase(tsc_agent_handoff_phase_seconds_bucket{${A}}[$__range])))` },
            { id: 'p99', title: '99 % are faster', unit: 's', expr: `histogram_quantile(0.99, sum by (side, phase, le) (increase(tsc_agent_handoff_phase_seconds_bucket{${A}}[$__range])))` },
          ] },
      ],
    },
  ],
};

export const views = [fleet, host, handoff];
