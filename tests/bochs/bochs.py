"""Runs a program on real kvm-intel with TSC scaling, without hardware virtualisation: under Bochs.

Bochs emulates an Intel Skylake-X with VMX; Debian's kernel in it loads kvm-intel, which finds KVM_CAP_TSC_CONTROL. A
program that runs here has /dev/kvm, debugfs, a writable /out as its current directory, and nothing else of this
machine's file system but itself and its shared libraries. What it prints is passed on as it comes; what it leaves in
/out is brought back. From the project's root:

    python3 -m tests.bochs.bochs --program PROGRAM --out DIRECTORY -- ARGUMENTS...

exits with the program's status, or with 125 if the machine failed, having said why. Not thread-safe: one run at a time
in a process, as the death signal of the emulator is tied to the thread that started it.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import io
import os
import pathlib
import pty
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.cluster.kernel import KernelError

from .guest import GuestError, make_cd

MACHINE_FAILED_STATUS = 125

# Bochs' clocks advance by a microsecond every ips / 10^6 instructions, its TSC by one tick an instruction. The model's
# CPUID claims 3.5 GHz, with which a second of the kernel's time would take 3.5 * 10^9 instructions, more than a minute.
# So the kernel is told the frequency that agrees with the other clocks (tsc_early_khz).
TSC_KHZ = 200_000

_BOOT_TIMEOUT_S = 600.0  # half a minute on an idle machine, several where others use the CPUs too
_PACKAGES = "bochs bochs-term bochsbios vgabios"

# The terminal display needs no X server. A triple fault or an internal panic ends Bochs instead of asking what to do.
_CONFIGURATION = """\
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
display_library: term
megs: 1024
cpu: model=corei7_skylake_x, count=1, ips={ips}, reset_on_triple_fault=0
clock: sync=none
ata0-master: type=cdrom, path="{cd}", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev="{serial}"
sound: waveoutdrv=dummy, waveindrv=dummy
log: "{log}"
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"""


class BochsError(RuntimeError):
    """The emulated machine did not run the program to its end."""


@dataclass
class SerialReader:
    """Takes the serial line apart as init.sh puts it together."""

    marker: str
    on_line: Callable[[bytes], None]
    started: bool = False
    status: int | None = None
    console: list[bytes] = field(default_factory=list)
    _rest: bytes = b""
    _held_empty_line: bool = False
    _out: list[bytes] | None = None

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))

    def _line(self, line: bytes) -> None:
        mark = self.marker.encode() + b"-"
        if line.startswith(mark):
            self._marked(line[len(mark):].decode(errors="replace"))
        elif self._out is not None:
            self._out.append(line)
        else:
            self._plain(line)
        if b"Kernel panic - not syncing" in line:
            raise BochsError(f"the emulated machine's kernel panicked: {line.decode(errors='replace')}")

    def _marked(self, message: str) -> None:
        word, _, rest = message.partition(":")
        self._held_empty_line = False  # init.sh puts one before a marker, as output need not end with a newline
        if word == "START" and not self.started:
            self.started = True
        elif word == "OUT":
            self._out = []
        elif word == "EXIT":
            self.status = int(rest)
        elif word == "FAIL":
            raise BochsError(f"the emulated machine could not start the program: {rest}")
        else:
            raise BochsError(f"the emulated machine restarted or sent something unknown: {message}")

    def _plain(self, line: bytes) -> None:
        if not self.started:
            self.console.append(line)
            return
        if self._held_empty_line:
            self.on_line(b"")
        self._held_empty_line = not line
        if line:
            self.on_line(line)

    def write_out(self, directory: pathlib.Path) -> list[pathlib.Path]:
        """Stores what came back from /out; returns its files."""
        if self._out is None:
            return []
        written = []
        try:
            packed = base64.b64decode(b"".join(self._out), validate=True)
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content is None:  # a directory
                        continue
                    path = directory / member.name
                    if not path.resolve().is_relative_to(directory.resolve()):
                        raise BochsError(f"/out holds a file that leads out of it: {member.name}")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
                    written.append(path)
        except (binascii.Error, tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise BochsError(f"the files of /out did not arrive whole: {error}") from error
        return written


@contextlib.contextmanager
def _emulator(cd: pathlib.Path, directory: pathlib.Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Bochs, the read end of its serial line, and its terminal, which has to be read too."""
    serial_path, log = directory / "serial", directory / "bochs.log"
    os.mkfifo(serial_path)
    (directory / "bochsrc").write_text(
        _CONFIGURATION.format(ips=TSC_KHZ * 1000, cd=cd, serial=serial_path, log=log))
    (directory / "commands").write_text("c\n")  # Debian's Bochs has the debugger, which waits for "continue"
    for tool, packages in (("bochs", _PACKAGES), ("setpriv", "util-linux")):
        if shutil.which(tool) is None:
            raise BochsError(f"{tool} is missing: apt-get install {packages}")
    serial = os.open(serial_path, os.O_RDONLY | os.O_NONBLOCK)
    terminal, bochs_terminal = pty.openpty()
    process = None
    try:
        # setpriv: however this process ends, Bochs ends with it.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "bochs", "-q", "-f", str(directory / "bochsrc"),
             "-rc", str(directory / "commands")],
            stdin=bochs_terminal, stdout=bochs_terminal, stderr=subprocess.DEVNULL,
            cwd=directory, start_new_session=True, env={**os.environ, "TERM": "vt100"})
        os.close(bochs_terminal)
        yield process, serial, terminal
    finally:
        if process is not None and process.poll() is None:
            process.kill()  # it has no state worth a clean end
            process.wait()
        os.close(serial)
        os.close(terminal)


def _follow(process: subprocess.Popen[bytes], serial: int, terminal: int, reader: SerialReader,
            timeout_s: float) -> None:
    """Feeds the reader until the program's exit status has come."""
    deadline = time.monotonic() + _BOOT_TIMEOUT_S
    booting = True
    while reader.status is None:
        if booting and reader.started:
            booting, deadline = False, time.monotonic() + timeout_s
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            what = "did not get as far as the program" if booting else "did not finish the program"
            limit_s = _BOOT_TIMEOUT_S if booting else timeout_s
            raise BochsError(f"the emulated machine {what} within {limit_s:.0f} s")
        ready, _, _ = select.select([serial, terminal], [], [], min(left_s, 1.0))
        if terminal in ready:
            with contextlib.suppress(OSError):  # EIO: Bochs has closed its side
                os.read(terminal, 65536)
        data = os.read(serial, 65536) if serial in ready else b""
        reader.feed(data)
        if process.poll() is not None or (serial in ready and not data):
            raise BochsError("Bochs ended by itself")


def run(program: pathlib.Path, arguments: list[str], out: pathlib.Path | None, *,
        timeout_s: float = 900.0, on_line: Callable[[bytes], None],
        say: Callable[[str], None] = lambda _: None) -> int:
    """Returns the exit status of `program` (128 + n after signal n). BochsError, GuestError or KernelError if the
    machine failed. `timeout_s` counts from the program's start, in real time."""
    reader = SerialReader("bochs" + secrets.token_hex(8), on_line)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tsc-handoff-bochs-") as tmp:
        directory = pathlib.Path(tmp)
        say("making the CD image")
        cd = make_cd(program, arguments, tsc_khz=TSC_KHZ, marker=reader.marker, directory=directory)
        say("booting Linux under Bochs (half a minute)")
        try:
            with _emulator(cd, directory) as (process, serial, terminal):
                _follow(process, serial, terminal, reader, timeout_s)
        except BochsError as error:
            raise BochsError(f"{error}\n{_post_mortem(reader, directory / 'bochs.log')}") from None
    say(f"finished with status {reader.status} after {time.monotonic() - started_s:.1f} s")
    assert reader.status is not None
    if out is not None:
        for path in reader.write_out(out):
            say(f"brought back {path}")
    return reader.status


def _post_mortem(reader: SerialReader, log: pathlib.Path) -> str:
    console = b"\n".join(reader.console[-20:]).decode(errors="replace")
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    # Bochs reports every unknown MSR; what stopped it stands in the others.
    told = "\n".join([line for line in lines if "Unknown register" not in line][-15:])
    return (f"--- serial console before the program, its end:\n{console}\n"
            f"--- Bochs' log, its end:\n{told}")


def _print_line(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _say(message: str) -> None:
    print(f"[bochs] {message}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.bochs.bochs",
        description="Run a program on kvm-intel with TSC scaling, in an emulated machine.")
    parser.add_argument("--program", type=pathlib.Path, required=True, help="ELF program of this machine")
    parser.add_argument("--out", type=pathlib.Path,
                        help="directory that receives what the program leaves in /out, its current directory")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS",
                        help="for the program, in real time, after the boot (default %(default).0f)")
    parser.add_argument("arguments", nargs="*", help="of the program, after --")
    options = parser.parse_args()
    # Turned into an exception, so that everything is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not options.program.is_file():
        parser.error(f"no such program: {options.program}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    try:
        return run(options.program, options.arguments, options.out, timeout_s=options.timeout,
                   on_line=_print_line, say=_say)
    except (BochsError, GuestError, KernelError) as error:
        _say(str(error))
        return MACHINE_FAILED_STATUS


if __name__ == "__main__":
    sys.exit(main())
