"""./run bench: what tsc-agent's two operations cost, against what they cannot cost less than.

In one run, on a node with real KVM and on a simulated host, for VMs of 1 to 1,024 vCPUs: the bare loop of the ioctls in the
VMM; an empty RPC to the same agent (grpc.health.v1.Health/Check, in which none of this project's code runs); GetTscState;
SetTscState with read-back. And the agent's memory with 1,000 VMs of 64 vCPUs, the width of one time reference, and whole
handoffs between two agents with journals on this machine's disk: one against 4 empty RPCs and 5 bare syncs, and 1,000 VMs with
1 to 64 handoffs at a time. And how long the thread of a VMM that is attached to is stopped, beside the cooperative port; what a
scrape of the metrics takes with 1,000 VMs; what mutual TLS adds to an empty RPC; what it costs to authorise a call and to
write it down; and how much longer handoffs take while everything hostile is at the agents.

One sample of each kind is taken in turn, over the agent's Unix socket, one call at a time. All vCPUs have another offset,
so that nothing can be left out of a state. The agents log warnings only.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
from typing import Any

from ..cluster import KernelError, NodeError, QemuError
from ..programs import LabError
from . import abuse, attaching, figures, handoffs, memory, places, scrape_figures, scraping, tls

PARTS = ("real", "simulated", "memory", "handoffs", "attach", "scrape", "tls", "abuse")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 measured, whether targets are met or not; 2 wrong usage; 3 something did not work")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="write the figures to FILE as JSON, too")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it works, the figures mean little")
    parser.add_argument("--only", choices=PARTS, action="append", metavar="PART",
                        help=f"measure only this part; may be repeated: {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    options.only = options.only or list(PARTS)
    if options.report is not None and not options.report.parent.is_dir():
        parser.error(f"--report: {options.report.parent} is no directory")
    return options


def machine(seconds: float, quick: bool) -> dict[str, Any]:
    model = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return {"cpus": os.cpu_count(), "model": model[0] if model else "", "kernel": platform.release(),
            "seconds": round(seconds, 1), "quick": quick}


def write_report(path: pathlib.Path, report: dict[str, Any]) -> None:
    """All of it or nothing."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    started = time.monotonic()
    environments: list[figures.Environment] = []
    resident = moved = secured = abused = None
    attached = []
    scrapes: list[scrape_figures.Scrape] = []
    try:
        if "real" in options.only:
            environments.append(places.real(options.quick))
        if "simulated" in options.only:
            environments.append(places.simulated(options.quick))
            environments.append(places.simulated(options.quick, places.BARE_METAL_IOCTL_NS))
        if "memory" in options.only:
            resident = memory.measure(vms=20) if options.quick else memory.measure()
        if "handoffs" in options.only:
            moved = handoffs.measure(vms=20, seconds=0.5, entries=200) if options.quick else handoffs.measure()
        if "attach" in options.only:
            attached = attaching.measure(options.quick)
        if "scrape" in options.only:
            scrapes = scraping.measure(options.quick)
        if "tls" in options.only:
            secured = tls.measure(options.quick)
        if "abuse" in options.only:
            abused = abuse.measure(options.quick)
    except (LabError, NodeError, KernelError, QemuError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3
    print(figures.as_text(environments, resident, moved, attached, scrapes, secured, abused))
    if options.report is not None:
        facts = machine(time.monotonic() - started, options.quick)
        write_report(options.report, figures.as_json(environments, resident, facts, moved, attached, scrapes, secured, abused))
        print(f"report: {options.report}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
