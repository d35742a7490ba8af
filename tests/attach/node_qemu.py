"""A stock QEMU with -accel kvm in a node, and its monitor. Not thread-safe."""

from __future__ import annotations

import itertools
import json
import re
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


# What must be the same in a process before and after: its memory map, what is in its vDSO (where the first injected
# instructions stand), its descriptors, and of each thread the signal masks, whether it is traced, and, unless it is on a
# CPU, the system call that it waits in with all arguments, its stack pointer and where it is.
_FINGERPRINT = """\
import hashlib, os, re, sys
os.chdir('/proc/' + sys.argv[1])
maps = open('maps').read()
start, end = (int(at, 16) for at in re.search(r'^(\\w+)-(\\w+) .*\\[vdso\\]$', maps, re.M).groups())
with open('mem', 'rb', 0) as memory:
    memory.seek(start)
    print(maps, hashlib.sha256(memory.read(end - start)).hexdigest(), sorted(os.listdir('fd')))
for tid in sorted(os.listdir('task')):
    print(tid, re.findall(r'^(?:Sig|Shd|Tracer)\\S+\\s+\\S+', open(f'task/{tid}/status').read(), re.M))
    if 'calls' in sys.argv:
        print(open(f'task/{tid}/syscall').read())
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

    def fingerprint(self, *, calls: bool = False) -> str:
        """What must be the same before and after. With `calls` also what each thread waits in, for a VM that is paused
        and that nobody talks to."""
        return self.node.run(["/usr/bin/python3", "-c", _FINGERPRINT, str(self.pid), *(["calls"] if calls else [])]).stdout

    def check_unchanged(self, before: str, *, vdso: bool = True) -> None:
        """Its fingerprint with `calls` is as before, or soon is again: a thread may be on a CPU at that moment. Without
        `vdso` its content does not count: who attaches and dies may leave some bytes at the end of it."""

        def relevant(fingerprint: str) -> str:
            return fingerprint if vdso else re.sub(r"\b[0-9a-f]{64}\b", "", fingerprint)

        deadline = time.monotonic() + 30
        while (now := relevant(self.fingerprint(calls=True))) != relevant(before) and time.monotonic() < deadline:
            threading.Event().wait(0.1)
        assert now == relevant(before)

    def check_that_it_answers(self, status: str = "paused") -> None:
        """Its monitor is served by the thread that is borrowed."""
        assert self.alive, self._process.log()
        assert self.qmp("query-status")["status"] == status

    def __enter__(self) -> NodeQemu:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self._process.kill()
            self._process.wait()
