"""The nodes' kernel and initrd: fetched from Debian once, cached, never installed on the machine.

A node boots Debian's own kernel, because what the tests must see is the KVM that users run. The package is downloaded
and only the kernel and the few modules that a node needs are taken from it. Everything in the cache is written under a
temporary name and renamed, under a lock, so that an interrupted run or two runs at once cannot leave a broken cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# In the order in which they must be inserted: each one after those that it uses. The first stage makes the root file
# system, the second one loads while the agent starts.
ROOT_MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "virtio_console", "netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay",
    "failover", "net_failover", "virtio_net",
)  # fmt: skip
KVM_MODULES = ("irqbypass", "ccp", "kvm", "kvm-amd")
# Not for the nodes, but taken from the package as well: kvm-intel under an emulator that has VMX, msr for a guest that
# moves its own TSCs.
EXTRA_MODULES = ("kvm-intel", "msr")

_BUSYBOX_PATHS = ("/bin/busybox", "/usr/bin/busybox")


class KernelError(RuntimeError):
    """The kernel or the initrd cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Kernel:
    """A kernel taken from a Debian package: its image and its modules (uncompressed)."""

    directory: pathlib.Path

    @property
    def image(self) -> pathlib.Path:
        """The compressed image as Debian ships it, for boot loaders."""
        return self.directory / "vmlinuz"

    @property
    def boot_image(self) -> pathlib.Path:
        """The same kernel uncompressed, for QEMU's -kernel: an emulated CPU takes three seconds to
        unpack it, and QEMU boots the ELF image directly (PVH)."""
        uncompressed = self.directory / "vmlinux"
        return uncompressed if uncompressed.is_file() else self.image

    def module(self, name: str) -> pathlib.Path:
        path = self.directory / "modules" / f"{name}.ko"
        if not path.is_file():
            raise KernelError(f"kernel module {name} is not in {self.directory}; add it to "
                              "EXTRA_MODULES in tests/cluster/kernel.py")
        return path


def cache_dir() -> pathlib.Path:
    """Where downloads are kept: $TSC_HANDOFF_CACHE, or ~/.cache/tsc-handoff."""
    configured = os.environ.get("TSC_HANDOFF_CACHE")
    path = pathlib.Path(configured) if configured else pathlib.Path.home() / ".cache/tsc-handoff"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextlib.contextmanager
def _cache_lock() -> Iterator[None]:
    with open(cache_dir() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch_kernel() -> Kernel:
    """Returns the cached kernel, downloading it first when there is none. Needs the network only then."""
    wanted = ROOT_MODULES + KVM_MODULES + EXTRA_MODULES
    suffix = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    with _cache_lock():
        found = sorted(cache_dir().glob(f"linux-image-*.{suffix}"), key=lambda p: p.stat().st_mtime)
        if found:
            return Kernel(found[-1])
        with tempfile.TemporaryDirectory(prefix="tmp-kernel-", dir=cache_dir()) as tmp:
            package = _download(pathlib.Path(tmp))
            unpacked = pathlib.Path(tmp) / "unpacked"
            _unpack(package, unpacked, wanted)
            final = cache_dir() / f"{package.stem}.{suffix}"
            unpacked.rename(final)
    return Kernel(final)


def _run(argv: Sequence[str], cwd: pathlib.Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, check=False,
                              env={**os.environ, "LC_ALL": "C.UTF-8"})
    except FileNotFoundError as error:
        raise KernelError(f"{argv[0]} is missing: the nodes' kernel is taken from a Debian "
                          "package, which needs apt and dpkg") from error
    if done.returncode != 0:
        raise KernelError(f"{' '.join(argv)} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def _download(directory: pathlib.Path) -> pathlib.Path:
    try:
        return _apt_download(directory)
    except KernelError:
        # Package lists that are absent or older than the archive: refresh them once, where allowed.
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update", "-qq"])
        return _apt_download(directory)


def _apt_download(directory: pathlib.Path) -> pathlib.Path:
    depends = _run(["apt-cache", "depends", "--important", "linux-image-amd64"])
    match = re.search(r"Depends: (linux-image-6\.1\.0-\d+-amd64)\s", depends)
    if match is None:
        raise KernelError("apt knows no linux-image-6.1.0-*-amd64 behind linux-image-amd64: run "
                          "`apt-get update` on a Debian 12 machine")
    # As root apt would drop to a user who may not write here, and warn about it.
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    _run(["apt-get", *sandbox, "download", match.group(1)], cwd=directory)
    return next(directory.glob("linux-image-*.deb"))


def _unpack(package: pathlib.Path, target: pathlib.Path, modules: Sequence[str]) -> None:
    """Takes the image and the modules out of the package: the whole of it would be 400 MB."""
    (target / "modules").mkdir(parents=True)
    missing = set(modules)
    seen_image = False
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as dpkg:
        assert dpkg.stdout is not None
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
            for member in archive:
                name = pathlib.PurePosixPath(member.name).name
                module = re.fullmatch(r"(.+)\.ko(\.xz|\.gz)?", name)
                if not member.isfile():
                    continue
                if name.startswith("vmlinuz-"):
                    seen_image = True
                    destination = target / "vmlinuz"
                elif module is not None and module.group(1) in missing:
                    missing.discard(module.group(1))
                    destination = target / "modules" / f"{module.group(1)}.ko"
                else:
                    continue
                source = archive.extractfile(member)
                assert source is not None
                destination.write_bytes(_decompressed(name, source.read()))
    if seen_image:
        elf = _kernel_payload((target / "vmlinuz").read_bytes())
        if elf is not None:
            (target / "vmlinux").write_bytes(elf)
    if dpkg.returncode != 0 or missing or not seen_image:
        raise KernelError(f"{package.name} is not the kernel package expected: dpkg-deb exit "
                          f"{dpkg.returncode}, modules not found: {sorted(missing)}")


def _kernel_payload(image: bytes) -> bytes | None:
    """The ELF file inside a bzImage (boot protocol 2.08: Documentation/x86/boot.rst), or None when
    it is compressed in a way that the standard library does not know."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ"):
        elf = lzma.LZMADecompressor().decompress(payload)  # the kernel's size follows the stream
    elif payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(wbits=31).decompress(payload)
    else:
        return None
    return elf if elf.startswith(b"\x7fELF") else None


def _decompressed(name: str, data: bytes) -> bytes:
    if name.endswith(".xz"):
        return lzma.decompress(data)
    return gzip.decompress(data) if name.endswith(".gz") else data


def _busybox() -> bytes:
    for path in map(pathlib.Path, _BUSYBOX_PATHS):
        if path.is_file():
            data = path.read_bytes()
            # A dynamic one names its loader, which an initrd does not have.
            if b"/ld-linux-x86-64.so" not in data:
                return data
    raise KernelError("no static busybox on this machine: apt-get install busybox-static")


def build_initrd(kernel: Kernel, stages: Sequence[Sequence[str]], init: str) -> pathlib.Path:
    """Returns an initrd with busybox, the script `init` as /init, and the modules of each stage as
    /modules/STAGE/NN-NAME.ko, in that order. Cached under a name made from all of its content."""
    files: dict[str, tuple[int, bytes]] = {
        "bin/busybox": (0o755, _busybox()),
        "init": (0o755, init.encode()),
    }
    directories = ["bin", "modules", "proc", "sys", "dev", "host", "upper", "root"]
    for stage, modules in enumerate(stages):
        directories.append(f"modules/{stage}")
        for number, name in enumerate(modules):
            path = f"modules/{stage}/{number:02d}-{name}.ko"
            files[path] = (0o644, kernel.module(name).read_bytes())
    archive = cpio(files, directories)
    cached = cache_dir() / f"initrd-{hashlib.sha256(archive).hexdigest()[:16]}.gz"
    if cached.is_file():
        return cached
    with _cache_lock(), tempfile.TemporaryDirectory(prefix="tmp-initrd-", dir=cache_dir()) as tmp:
        new = pathlib.Path(tmp) / "initrd"
        new.write_bytes(gzip.compress(archive, compresslevel=6, mtime=0))
        new.rename(cached)
    return cached


def cpio(files: Mapping[str, tuple[int, bytes]], directories: Sequence[str]) -> bytes:
    """A newc archive as Linux wants it for an initrd, the same bytes for the same content."""
    out = bytearray()

    def add(inode: int, name: str, mode: int, data: bytes) -> None:
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out.extend(b"070701" + b"".join(b"%08x" % field for field in fields))
        out.extend(name.encode() + b"\0")
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(data)
        out.extend(b"\0" * (-len(out) % 4))

    inode = 0
    for inode, name in enumerate(directories, 1):
        add(inode, name, 0o040755, b"")
    for number, (name, (mode, data)) in enumerate(files.items(), inode + 1):
        add(number, name, 0o100000 | mode, data)
    add(0, "TRAILER!!!", 0, b"")
    return bytes(out)


def clear_cache() -> None:
    """Removes kernels and initrds, so that the next use fetches afresh."""
    with _cache_lock():
        for path in (*cache_dir().glob("linux-image-*"), *cache_dir().glob("initrd-*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
