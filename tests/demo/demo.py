"""./run demo: hands a running VM's TSCs from one host to another and shows what became of them.

Boots two nodes with real KVM, starts tsc-agent in each and the witness VM on node 1, whose guest watches its own TSC;
pauses it, hands it over with tscctl, lets it run on node 2, and compares what the agents say with the ground truth.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile

from ..cluster import KernelError, NodeError, QemuError
from ..programs import LabError
from ..witness import WitnessError
from . import real
from .evidence import Evidence, as_text, failures

MAX_VCPUS = 64


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 all holds; 1 something that must hold does not; 2 wrong usage; 3 the lab did not work")
    parser.add_argument("--vcpus", type=int, default=8, metavar="N", help=f"vCPUs of the VM, 1 to {MAX_VCPUS} [8]")
    parser.add_argument("--simulated", action="store_true", help="simulated hosts of different frequency instead of QEMU")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="write the figures to FILE as JSON, too")
    options = parser.parse_args(arguments)
    if not 1 <= options.vcpus <= MAX_VCPUS:
        parser.error(f"--vcpus must be 1 to {MAX_VCPUS}")
    if options.report is not None and not options.report.parent.is_dir():
        parser.error(f"--report: {options.report.parent} is no directory")
    return options


def write_report(path: pathlib.Path, evidence: Evidence) -> None:
    """All of it or nothing."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        json.dump(evidence.as_json(), file, indent=2)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        if options.simulated:
            from . import simulated

            evidence = simulated.run(options.vcpus)
        else:
            evidence = real.run(options.vcpus)
    except (LabError, NodeError, WitnessError, KernelError, QemuError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 3
    print(as_text(evidence))
    if options.report is not None:
        write_report(options.report, evidence)
        print(f"report: {options.report}")
    return 1 if failures(evidence) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
