"""The emulated Intel machine: that its parts fit together, and that kvm-intel in it scales the TSC."""

from __future__ import annotations

import base64
import io
import pathlib
import signal
import struct
import subprocess
import tarfile

import pytest

from tests.cluster import kernel

from .bochs import BochsError, SerialReader, run
from .bzimage import BzImageError, unpacked
from .guest import GuestError, parse_ldd

_HERE = pathlib.Path(__file__).parent


def read_all(data: bytes, chunk_bytes: int = 7) -> tuple[SerialReader, list[bytes]]:
    lines: list[bytes] = []
    reader = SerialReader("M", lines.append)
    for start in range(0, len(data), chunk_bytes):
        reader.feed(data[start:start + chunk_bytes])
    return reader, lines


def packed(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return base64.encodebytes(buffer.getvalue())


def test_output_status_and_files_come_back(tmp_path: pathlib.Path) -> None:
    sent = b"boot\r\nM-START\na\n\nb\nno newline\nM-OUT\n" + packed("x.xml", b"<x/>") + b"M-EXIT:7\n"
    reader, lines = read_all(sent)
    assert (reader.status, lines, reader.console) == (7, [b"a", b"", b"b", b"no newline"], [b"boot"])
    assert reader.write_out(tmp_path) == [tmp_path / "x.xml"]
    assert (tmp_path / "x.xml").read_bytes() == b"<x/>"


def test_an_empty_line_at_the_end_of_the_output_is_kept() -> None:
    assert read_all(b"M-START\na\n\n\nM-EXIT:0\n")[1] == [b"a", b""]


def test_damaged_files_are_refused(tmp_path: pathlib.Path) -> None:
    good = packed("x", bytes(range(256)))
    for bad in (good[:len(good) // 2] + b"\n", b"%" + good[1:], good[:40] + b"A" * 8 + good[48:]):
        reader, _ = read_all(b"M-START\nM-OUT\n" + bad + b"M-EXIT:0\n")
        with pytest.raises(BochsError, match="did not arrive whole"):
            reader.write_out(tmp_path)


def test_a_file_that_would_be_written_elsewhere_is_refused(tmp_path: pathlib.Path) -> None:
    reader, _ = read_all(b"M-START\nM-OUT\n" + packed("../x", b"") + b"M-EXIT:0\n")
    with pytest.raises(BochsError, match="leads out"):
        reader.write_out(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sent", "message"), [
    (b"M-FAIL:no debugfs in this kernel\n", "no debugfs"),
    (b"M-START\nM-START\n", "restarted"),
    (b"[1.0] Kernel panic - not syncing: Oops\n", "panicked"),
])
def test_a_failed_machine_is_reported(sent: bytes, message: str) -> None:
    with pytest.raises(BochsError, match=message):
        read_all(sent)


def test_ldd_output_names_libraries_and_loader() -> None:
    output = ("\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f00)\n"
              "\t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n")
    assert parse_ldd(output) == {"libc.so.6": pathlib.Path("/lib/libc.so.6"),
                                 "/lib64/ld-linux-x86-64.so.2": pathlib.Path("/lib64/ld-linux-x86-64.so.2")}
    with pytest.raises(GuestError, match=r"libx\.so"):
        parse_ldd("\tlibx.so => not found\n")


def elf_kernel(address: int, content: bytes, memory_bytes: int) -> bytes:
    header = b"\x7fELF\x02".ljust(24, b"\0") + struct.pack("<QQ", address, 64)
    header = header.ljust(54, b"\0") + struct.pack("<HH", 56, 1)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 120, 0, address, len(content), memory_bytes, 4096)
    return header.ljust(64, b"\0") + segment + content


def test_a_repacked_kernel_lies_behind_its_stub_at_its_own_address() -> None:
    image = bytearray(4096)
    image[0x1F1] = 3
    image[0x202:0x208] = b"HdrS\x0f\x02"
    address, memory_bytes = 0x1000000, 0x10000
    made = unpacked(bytes(image), elf_kernel(address, b"KERNEL", memory_bytes))
    base, = struct.unpack_from("<Q", made, 0x258)
    init_bytes, = struct.unpack_from("<I", made, 0x260)
    body = made[4 * 512:]
    assert body[address - base:address - base + 6] == b"KERNEL"
    assert base + init_bytes == address + memory_bytes
    with pytest.raises(BzImageError, match="HdrS"):
        unpacked(bytes(4096), b"")
    with pytest.raises(BzImageError, match="ELF"):
        unpacked(bytes(image), b"no kernel at all")


@pytest.mark.slow
def test_kvm_intel_scales_the_tsc(tmp_path: pathlib.Path) -> None:
    """probe.c checks, with an RDTSC in a guest, what every other test here relies on."""
    probe = tmp_path / "probe"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", probe, _HERE / "probe.c"], check=True)
    lines: list[bytes] = []
    status = run(probe, [], None, on_line=lines.append)
    assert status == 0, b"\n".join(lines).decode()
    values = dict(line.decode().split("=", 1) for line in lines if b"=" in line)
    assert values["current_clocksource"] == "tsc"
    assert values["clock_flags_equal_offsets"] == "0xe"
    assert values["clock_flags_unequal_offsets"] == "0x0"
    assert values["debugfs_ratio"] == values["expected_ratio"]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "message"), [
    ("echo c >/proc/sysrq-trigger", "panicked"),
    ("echo b >/proc/sysrq-trigger; sleep 60", "restarted|ended by itself"),
    ("while :; do sleep 60; done", "did not finish the program within"),
])
def test_a_machine_that_dies_or_hangs_is_an_error(command: str, message: str) -> None:
    busybox = pathlib.Path("/bin/busybox")
    with pytest.raises(BochsError, match=message):
        run(busybox, ["sh", "-c", command], None, timeout_s=90, on_line=lambda _: None)


@pytest.mark.slow
def test_a_signal_shows_in_the_status_and_files_still_come_back(tmp_path: pathlib.Path) -> None:
    command = "head -c 100000 /dev/urandom | tee random | md5sum; kill -SEGV $$"
    lines: list[bytes] = []
    status = run(pathlib.Path("/bin/busybox"), ["sh", "-c", command], tmp_path, on_line=lines.append)
    assert status == 128 + signal.SIGSEGV
    digest = subprocess.run(["md5sum"], input=(tmp_path / "random").read_bytes(), capture_output=True,
                            check=True).stdout
    assert lines[0].split()[0] == digest.split()[0]


def test_the_kernel_package_has_what_is_needed() -> None:
    assert kernel.fetch_kernel().module("kvm-intel").is_file()
