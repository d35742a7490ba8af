"""What bench_vm measured, judged against the targets and put into words. Pure: no I/O.

The floor of an RPC is what it cannot be faster than: the bare loop of its ioctls in the VMM plus an empty RPC to the same
agent, both measured in the same round. Its percentiles are those of the rounds' sums, which is stricter than the sum of
percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import abuse_figures, attach_figures, handoff_figures, scrape_figures, tls_figures
from .abuse_figures import Abuse
from .attach_figures import Attached
from .handoff_figures import Handoffs
from .scrape_figures import Scrape
from .tls_figures import TlsCost

METHODS = {"get": "GetTscState", "set": "SetTscState"}
PERCENTILES = ("p50", "p99")
# RPC over floor, by number of vCPUs.
MAX_RATIO = {64: 1.25, 1024: 1.5}
MAX_MEMORY_BYTES = 64 << 20
MAX_TRUST_CHECK_NS = 1000
MAX_PROBE_NS = 20_000_000
# On bare metal; on emulated clocks it is only reported.
MAX_REFERENCE_WIDTH_NS = 100


@dataclass(frozen=True)
class Environment:
    """One place where it was measured."""

    name: str                   # "real", "simulated", "simulated-1us"
    description: str
    results: list[dict[str, Any]]  # bench_vm's, by ascending number of vCPUs
    load_before: str
    load_after: str


@dataclass(frozen=True)
class Memory:
    """The agent's resident memory without a VM and with all of them."""

    vms: int
    vcpus: int
    rss_empty_bytes: int
    rss_bytes: int
    rss_peak_bytes: int
    register_seconds: float

    @property
    def full_size(self) -> bool:
        return self.vms == 1000 and self.vcpus == 64


@dataclass(frozen=True)
class Target:
    what: str
    environment: str
    percentile: str  # empty: no percentile
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def ns(result: dict[str, Any], series: str, percentile: str) -> int:
    return int(result["series"][series][f"{percentile}_ns"])


def ratio(result: dict[str, Any], method: str, percentile: str) -> float:
    return ns(result, method, percentile) / max(ns(result, f"floor_{method}", percentile), 1)


def targets(environments: list[Environment], memory: Memory | None, handoffs: Handoffs | None = None,
            attached: Sequence[Attached] = (), scrapes: Sequence[Scrape] = (), abused: Abuse | None = None) -> list[Target]:
    found = [
        Target(f"{METHODS[method]}, {result['vcpus']} vCPUs", environment.name, percentile,
               round(ratio(result, method, percentile), 3), MAX_RATIO[result["vcpus"]])
        for environment in environments for result in environment.results if result["vcpus"] in MAX_RATIO
        for method in METHODS for percentile in PERCENTILES
    ]
    for environment in by_clocks(environments):
        first = environment.results[0]
        for percentile in PERCENTILES:
            found += [
                Target("knowing whether the clock is trusted, in ns", environment.name, percentile,
                       first["reference"]["trust_check"][f"{percentile}_ns"], MAX_TRUST_CHECK_NS),
                Target("a probe of 8 rounds, in ms", environment.name, percentile,
                       round(ns(first, "compare_clocks", percentile) / 1e6, 2), MAX_PROBE_NS / 1e6),
            ]
        if environment.name != "real":
            found.append(Target("width of a reference, in ns", environment.name, "p50",
                                first["reference"]["width"]["p50_ns"], MAX_REFERENCE_WIDTH_NS))
    if memory is not None and memory.full_size:
        found.append(Target("agent's memory in MiB, 1,000 VMs of 64 vCPUs", "simulated", "",
                            round(memory.rss_bytes / (1 << 20), 1), MAX_MEMORY_BYTES / (1 << 20)))
    if handoffs is not None:
        found += [Target(what, "simulated", percentile, value, limit)
                  for what, percentile, value, limit in handoff_figures.targets(handoffs)]
    found += [Target(what, "simulated", percentile, value, limit)
              for what, percentile, value, limit in scrape_figures.targets(list(scrapes))]
    if abused is not None:
        found += [Target(what, "simulated", percentile, value, limit)
                  for what, percentile, value, limit in abuse_figures.targets(abused)]
    return found + [Target(*target) for target in attach_figures.targets(list(attached))]


def by_clocks(environments: list[Environment]) -> list[Environment]:
    """One environment for each kind of clocks: the simulated ones ran on the same, the machine's."""
    return list({environment.name.split("-")[0]: environment for environment in reversed(environments)}.values())[::-1]


def us(value_ns: float) -> str:
    """In us, with as many digits as mean something."""
    value = value_ns / 1000
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def mark(result: dict[str, Any], method: str, percentile: str) -> str:
    limit = MAX_RATIO.get(result["vcpus"])
    if limit is None:
        return "  "
    return "ok" if ratio(result, method, percentile) <= limit else "NO"


def table(environment: Environment) -> list[str]:
    lines = [
        f"{environment.name}: {environment.description}",
        f"load average before {environment.load_before}, after {environment.load_after}; us; RPC / floor, "
        "where floor = bare loop + empty RPC of the same round",
        f"{'':>6} {'':>6} {'':>3} {'empty':>8} | {'bare':>8} {'Get':>8} {'Get /':>9} | {'bare':>8} {'Set':>8} {'Set /':>9}",
        f"{'vCPUs':>6} {'rounds':>6} {'':>3} {'RPC':>8} | {'get':>8} {'TscState':>8} {'floor':>9} | {'set':>8} "
        f"{'TscState':>8} {'floor':>9}",
    ]
    for result in environment.results:
        for percentile in PERCENTILES:
            first = percentile == PERCENTILES[0]
            cells = [f"{result['vcpus'] if first else '':>6} {result['rounds'] if first else '':>6} {percentile:>3} "
                     f"{us(ns(result, 'empty_rpc', percentile)):>8}"]
            for method in METHODS:
                cells.append(f"{us(ns(result, f'bare_{method}', percentile)):>8} {us(ns(result, method, percentile)):>8} "
                             f"{ratio(result, method, percentile):>6.2f} {mark(result, method, percentile)}")
            lines.append(" | ".join(cells))
    lines += [f"  {result['vcpus']} vCPUs: {result['failed_rounds']} more rounds failed, the last one with: {result['failure']}"
              for result in environment.results if result["failed_rounds"]]
    return lines


def stages_ns(result: dict[str, Any], method: str) -> dict[str, int]:
    """What the RPC has above its floor, by where it arises. By the fastest of each kind: the least disturbed."""
    bare, empty, rpc = (ns(result, series, "min") for series in (f"bare_{method}", "empty_rpc", method))
    port, operation = ns(result, f"port_{method}", "min"), ns(result, f"operation_{method}", "min")
    return {
        "port": port - bare,                # the socket to the VMM, two of its threads, copies
        "reference and arithmetic": operation - port,
        "service": rpc - empty - operation,  # worker pool, conversion, larger messages
        "all": rpc - empty - bare,
    }


def explanation(environment: Environment) -> list[str]:
    lines = []
    for result in environment.results:
        for method, name in METHODS.items():
            if "NO" not in {mark(result, method, percentile) for percentile in PERCENTILES}:
                continue
            stages = stages_ns(result, method)
            lines.append(
                f"{environment.name}, {name}, {result['vcpus']} vCPUs: {us(stages['all'])} us above the floor when nothing "
                f"disturbs (fastest of each): "
                f"{us(stages['port'])} the port (socket to the VMM and its threads), {us(stages['reference and arithmetic'])} "
                f"reference and arithmetic, {us(stages['service'])} worker pool, conversion and the larger messages")
    return lines


def reference_line(environment: Environment) -> str:
    reference = environment.results[0]["reference"]
    width, cost, single = reference["width"], reference["cost"], reference["single_bracket_width"]
    return (f"one bracketed reference, {environment.name}: width {width['p50_ns']:,} ns p50, {width['p99_ns']:,} ns p99 "
            f"(any one bracket: {single['p50_ns']:,} / {single['p99_ns']:,}); costs {us(cost['p50_ns'])} us p50, "
            f"{us(cost['p99_ns'])} us p99; knowing whether the clock is trusted {reference['trust_check']['p50_ns']:,} / "
            f"{reference['trust_check']['p99_ns']:,} ns")


def guard_line(environment: Environment) -> str:
    result = environment.results[0]
    admission, audited = result["guard"]["admission"], result["guard"]["audit_line"]
    empty = max(ns(result, "empty_rpc", "p50"), 1)
    return (f"authorisation, {environment.name}: who calls and may he {us(admission['p50_ns'])} us p50, {us(admission['p99_ns'])} us "
            f"p99; a line of the audit {us(audited['p50_ns'])} us p50, {us(audited['p99_ns'])} us p99; a call with both takes "
            f"{(empty + admission['p50_ns'] + audited['p50_ns']) / empty:.2f} of an empty RPC without")


def probe_line(environment: Environment) -> str:
    result = environment.results[0]
    probe = result["probe"]
    error = probe["offset_error"]

    floors = ns(result, "compare_clocks", "p50") / max(probe["rounds"] * ns(result, "empty_rpc", "p50"), 1)
    return (f"one probe, {environment.name}: {probe['rounds']} rounds of the agent to itself over TCP, "
            f"{us(ns(result, 'compare_clocks', 'p50'))} us p50 ({floors:.2f} of {probe['rounds']} empty RPCs over a Unix "
            f"socket), {us(ns(result, 'compare_clocks', 'p99'))} us p99; bounds the clocks' difference to "
            f"+-{us(error['p50_ns'])} us p50, {us(error['p99_ns'])} us p99")


def memory_line(memory: Memory) -> str:
    def mib(value: int) -> str:
        return f"{value / (1 << 20):.1f} MiB"

    per_vm = (memory.rss_bytes - memory.rss_empty_bytes) / memory.vms / 1024
    verdict = "no target at this size"
    if memory.full_size:
        verdict = f"at most {mib(MAX_MEMORY_BYTES)}: {'ok' if memory.rss_bytes <= MAX_MEMORY_BYTES else 'NO'}"
    return (f"agent's memory with {memory.vms:,} VMs of {memory.vcpus} vCPUs: {mib(memory.rss_bytes)} resident (peak "
            f"{mib(memory.rss_peak_bytes)}), {mib(memory.rss_empty_bytes)} without a VM, {per_vm:.1f} KiB a VM; {verdict}; "
            f"registered in {memory.register_seconds:.1f} s")


def as_text(environments: list[Environment], memory: Memory | None, handoffs: Handoffs | None = None,
            attached: Sequence[Attached] = (), scrapes: Sequence[Scrape] = (), secured: TlsCost | None = None,
            abused: Abuse | None = None) -> str:
    lines: list[str] = []
    for environment in environments:
        lines += [*table(environment), ""]
    for environment in by_clocks(environments):
        lines += [reference_line(environment), probe_line(environment), guard_line(environment)]
    if memory is not None:
        lines.append(memory_line(memory))
    if handoffs is not None:
        lines += ["", *handoff_figures.as_lines(handoffs)]
    for place in attached:
        lines += ["", *attach_figures.as_lines(place)]
    if scrapes:
        lines += ["", *scrape_figures.as_lines(list(scrapes))]
    if secured is not None:
        lines += ["", *tls_figures.as_lines(secured)]
    if abused is not None:
        lines += ["", *abuse_figures.as_lines(abused)]
    found = targets(environments, memory, handoffs, attached, scrapes, abused)
    if found:
        lines += ["", f"targets: {sum(target.met for target in found)} of {len(found)} met"]
        lines += [f"  missed: {target.what}, {target.environment} {target.percentile}: {target.value} > {target.limit}"
                  for target in found if not target.met]
    held_back = [line for environment in environments for line in explanation(environment)]
    if held_back:
        lines += ["what holds it back:", *(f"  {line}" for line in held_back)]
    return "\n".join(lines)


def as_json(environments: list[Environment], memory: Memory | None, machine: dict[str, Any],
            handoffs: Handoffs | None = None, attached: Sequence[Attached] = (), scrapes: Sequence[Scrape] = (),
            secured: TlsCost | None = None, abused: Abuse | None = None) -> dict[str, Any]:
    return {
        "format": "tsc-handoff-bench/1",
        "machine": machine,
        "environments": [
            {"name": environment.name, "description": environment.description, "load_before": environment.load_before,
             "load_after": environment.load_after,
             "results": [
                 {**result,
                  "ratio": {method: {percentile: round(ratio(result, method, percentile), 4) for percentile in PERCENTILES}
                            for method in METHODS},
                  "above_floor_min_ns": {method: stages_ns(result, method) for method in METHODS}}
                 for result in environment.results]}
            for environment in environments],
        "memory": None if memory is None else vars(memory),
        "handoffs": None if handoffs is None else {
            **vars(handoffs), "ratio": {percentile: round(handoffs.ratio(percentile), 4) for percentile in PERCENTILES}},
        "attached": attach_figures.as_json(list(attached)),
        "scrapes": scrape_figures.as_json(list(scrapes)),
        "tls": None if secured is None else tls_figures.as_json(secured),
        "abuse": None if abused is None else abuse_figures.as_json(abused),
        "targets": [{**vars(target), "met": target.met}
                    for target in targets(environments, memory, handoffs, attached, scrapes, abused)],
    }
