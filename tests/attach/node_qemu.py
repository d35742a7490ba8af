"""A stock QEMU with -accel kvm in a node, and its monitor. Not thread-safe."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

from ..cluster import Node

_numbers = itertools.count(1)

# Runs in the node: one connection per command is all that QEMU's monitor needs.
_QMP = """\
import json, socket, sys
path, command, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
lines = connection.makefile('rw')
def receive():
    while True:
        message = json.loads(lines.readline())
        if 'return' in message or 'error' in message or 'QMP' in message:
            return message
receive()
for one in ({'execute': 'qmp_capabilities'}, {'execute': command, 'arguments': arguments}):
    lines.write(json.dumps(one)); lines.flush()
    answer = receive()
print(json.dumps(answer))
"""


class NodeQemu:
    """Ends with the `with` block. The guest stays in its firmware, which is enough to execute vCPUs."""

    def __init__(self, node: Node, *, name: str, vcpus: int, options: Sequence[str] = ()) -> None:
        self.node = node
        # One of its own: a QEMU that has ended leaves its socket behind.
        self._socket = f"/tmp/{name}-{next(_numbers)}.qmp"
        self._process = node.start(
            ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host,-svm", "-smp", str(vcpus), "-m", "64", "-nodefaults",
             "-display", "none", "-name", f"guest={name}", "-qmp", f"unix:{self._socket},server=on,wait=off", *options],
            name=name)
        deadline = time.monotonic() + 60
        while node.run(["test", "-S", self._socket], check=False).returncode != 0:
            assert time.monotonic() < deadline and self._process.poll() is None, self._process.log()
            threading.Event().wait(0.1)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def qmp_argv(self, command: str, **arguments: Any) -> list[str]:
        """What gives the command when it is run in the node."""
        return ["/usr/bin/python3", "-c", _QMP, self._socket, command, json.dumps(arguments)]

    def qmp(self, command: str, **arguments: Any) -> Any:
        done = self.node.run(self.qmp_argv(command, **arguments))
        answer = json.loads(done.stdout)
        assert "return" in answer, answer
        return answer["return"]

    def offsets(self) -> list[int]:
        """What debugfs says of the vCPUs' offsets, modulo 2^64."""
        root = f"/sys/kernel/debug/kvm/{self.pid}-*/vcpu"
        script = f"for i in {root}*; do echo ${{i##*vcpu}} $(cat $i/tsc-offset); done"
        lines = self.node.run(["sh", "-c", script]).stdout.splitlines()
        by_id = sorted((int(line.split()[0]), int(line.split()[1])) for line in lines)
        return [offset % 2**64 for _, offset in by_id]

    def fingerprint(self) -> str:
        """What must be the same before and after."""
        return self.node.run(["sh", "-c", f"cd /proc/{self.pid}; cat maps; ls fd; "
                              "grep -E 'Sig|Shd|Tracer' task/*/status"]).stdout

    def __enter__(self) -> NodeQemu:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self._process.kill()
            self._process.wait()
