"""./run demo: hands a running VM's TSCs from one host to another and shows what became of them.

Boots two nodes with real KVM, starts tsc-agent in each and the witness VM on node 1, whose guest watches its own TSC;
pauses it, hands it over with tscctl, lets it run on node 2, and compares what the agents say with the ground truth.

With --qemu it is a Linux guest in a stock QEMU that knows nothing of tsc-handoff: live-migrated by QEMU alone and with
the handoff (tscctl migrate-qemu), with 2 and with 4 vCPUs, side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

from ..cluster import KernelError, NodeError, QemuError
from ..guest import GuestError
from ..programs import LabError
from ..witness import WitnessError
from . import real
from .evidence import as_text, failures

MAX_VCPUS = 64
MAX_TIMES = 100


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 all holds; 1 something that must hold does not; 2 wrong usage; 3 the lab did not work")
    parser.add_argument("--vcpus", type=int, default=8, metavar="N", help=f"vCPUs of the VM, 1 to {MAX_VCPUS} [8]")
    parser.add_argument("--simulated", action="store_true", help="simulated hosts of different frequency instead of QEMU")
    parser.add_argument("--qemu", action="store_true", help="a stock QEMU's live migration, without and with the handoff")
    parser.add_argument("--times", type=int, default=3, metavar="N",
                        help="with --qemu: migrations of each kind [3]; a third as many with TSCs out of phase")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="write the figures to FILE as JSON, too")
    options = parser.parse_args(arguments)
    if not 1 <= options.vcpus <= MAX_VCPUS:
        parser.error(f"--vcpus must be 1 to {MAX_VCPUS}")
    if not 1 <= options.times <= MAX_TIMES:
        parser.error(f"--times must be 1 to {MAX_TIMES}")
    if options.qemu and options.simulated:
        parser.error("--qemu needs real KVM: it cannot be --simulated")
    if options.report is not None and not options.report.parent.is_dir():
        parser.error(f"--report: {options.report.parent} is no directory")
    return options


def write_report(path: pathlib.Path, report: dict[str, Any]) -> None:
    """All of it or nothing."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def run(options: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    """The report in words, as JSON, and whether all holds."""
    if options.qemu:
        from . import qemu
        from .qemu_evidence import qemu_as_text, qemu_failures

        found = qemu.run(options.times)
        return qemu_as_text(found), found.as_json(), not qemu_failures(found)
    if options.simulated:
        from . import simulated

        evidence = simulated.run(options.vcpus)
    else:
        evidence = real.run(options.vcpus)
    return as_text(evidence), evidence.as_json(), not failures(evidence)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        text, report, holds = run(options)
    except (LabError, NodeError, WitnessError, KernelError, QemuError, GuestError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 3
    print(text)
    if options.report is not None:
        write_report(options.report, report)
        print(f"report: {options.report}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
