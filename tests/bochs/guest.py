"""What the emulated machine boots from: a CD image with GRUB, the kernel, and a program with its shared libraries."""

from __future__ import annotations

import pathlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from tests.cluster import kernel

from . import bzimage

# In the order in which they must be inserted.
_KVM_MODULES = ("irqbypass", "kvm", "kvm-intel")
# What GRUB needs to find its configuration and a kernel on a CD; the image is read byte by byte, so no more than that.
_GRUB_MODULES = "iso9660 biosdisk linux normal configfile"
# `mitigations=off` saves emulated instructions. A panic halts, so that its text ends the serial output. Bochs 2.7 gives
# a wrong size for the compacted XSAVE area, for which the kernel would turn AVX off: so the plain format it is.
_COMMAND_LINE = ("console=ttyS0,115200 quiet tsc=reliable clocksource=tsc mitigations=off nokaslr "
                 "panic=0 clearcpuid=xsavec,xsaves")


class GuestError(RuntimeError):
    """The CD image cannot be made; the message says what to do."""


def make_cd(program: pathlib.Path, arguments: Sequence[str], *, tsc_khz: int, marker: str,
            directory: pathlib.Path) -> pathlib.Path:
    """Returns a bootable CD image in `directory` that runs `program` with `arguments` as init.sh says."""
    tree = directory / "cd"
    (tree / "boot/grub").mkdir(parents=True)
    debian_kernel = kernel.fetch_kernel()
    init = pathlib.Path(__file__).with_name("init.sh").read_text()
    (tree / "boot/vmlinuz").write_bytes(_kernel_image(debian_kernel))
    shutil.copyfile(kernel.build_initrd(debian_kernel, [_KVM_MODULES], init), tree / "boot/base.gz")
    (tree / "boot/program").write_bytes(_program_archive(program, arguments))
    (tree / "boot/grub/grub.cfg").write_text(
        f"linux /boot/vmlinuz {_COMMAND_LINE} tsc_early_khz={tsc_khz} bochs.marker={marker}\n"
        "initrd /boot/base.gz /boot/program\n"
        "boot\n")
    image = directory / "cd.iso"
    # No translations, fonts or themes: none is seen.
    _run(["grub-mkrescue", "-o", str(image), f"--install-modules={_GRUB_MODULES}", "--locales=",
          "--fonts=", "--themes=", str(tree)], "grub-common grub-pc-bin xorriso")
    if not image.is_file():
        raise GuestError("grub-mkrescue made no image: apt-get install grub-pc-bin xorriso")
    return image


def _kernel_image(debian_kernel: kernel.Kernel) -> bytes:
    compressed = debian_kernel.image.read_bytes()
    try:
        return bzimage.unpacked(compressed, debian_kernel.boot_image.read_bytes())
    except bzimage.BzImageError:
        return compressed  # boots as well, a minute later


def _program_archive(program: pathlib.Path, arguments: Sequence[str]) -> bytes:
    libraries = shared_libraries(program)
    # A flat directory named in LD_LIBRARY_PATH, as the libraries' places may be relative to the program's own.
    command = [f"/program/bin/{program.name}", *arguments]
    files = {
        f"program/bin/{program.name}": (0o755, program.read_bytes()),
        "program/run": (0o755, f"#!/bin/sh\nLD_LIBRARY_PATH=/program/lib exec {shlex.join(command)}\n".encode()),
    }
    for name, path in libraries.items():
        # A name with directories is the loader's, which the program itself names.
        guest_path = name.lstrip("/") if "/" in name else f"program/lib/{name}"
        files[guest_path] = (0o755, path.read_bytes())
    directories = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents}
    return kernel.cpio(files, sorted(directories - {"."}))


def shared_libraries(program: pathlib.Path) -> dict[str, pathlib.Path]:
    """The name by which each shared library (and, with its whole path, the loader) is looked up -> its file here."""
    if program.read_bytes()[:4] != b"\x7fELF":
        raise GuestError(f"{program} is not an ELF program")
    done = subprocess.run(["ldd", str(program)], text=True, capture_output=True, check=False,
                          env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    if "not a dynamic executable" in done.stderr or "statically linked" in done.stdout:
        return {}
    if done.returncode != 0:
        raise GuestError(f"ldd {program} failed: {done.stderr.strip()}")
    return parse_ldd(done.stdout)


def parse_ldd(output: str) -> dict[str, pathlib.Path]:
    libraries = {}
    for line in output.splitlines():
        if " => not found" in line:
            raise GuestError(f"shared library missing on this machine: {line.split()[0]}")
        match = re.fullmatch(r"\s*(\S+)(?: => (\S+))? \(0x[0-9a-f]+\)", line)
        if match is not None and not match.group(1).startswith("linux-vdso"):
            libraries[match.group(1)] = pathlib.Path(match.group(2) or match.group(1))
    return libraries


def _run(argv: Sequence[str], packages: str) -> None:
    try:
        done = subprocess.run(argv, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
    except FileNotFoundError as error:
        raise GuestError(f"{argv[0]} is missing: apt-get install {packages}") from error
    if done.returncode != 0:
        raise GuestError(f"{argv[0]} failed ({done.returncode}); it needs {packages}:\n{done.stdout}")
