"""Repacks a Linux bzImage so that it boots without decompressing itself. Pure functions, no state.

Under an instruction-level emulator the kernel's own xz decompressor takes most of a minute, two thirds of a boot. So
the uncompressed kernel takes the decompressor's place behind the same real-mode header: a boot loader sees an ordinary
bzImage. In front of it stands a stub that does what the decompressor does last, which is to enter 64-bit mode with
identity-mapped memory and jump to the kernel (Documentation/x86/boot.rst, "64-bit Boot Protocol").
"""

from __future__ import annotations

import struct

_SECTOR_BYTES = 512
_PAGE_BYTES = 4096
_STUB_PAGES = 8
_STUB_BYTES = _STUB_PAGES * _PAGE_BYTES
# The boot protocol's name for the place where a bzImage's protected-mode part is linked.
_BZIMAGE_ADDRESS = 0x100000

# Offsets in the real-mode header.
_SETUP_SECTORS, _SYSSIZE, _MAGIC, _VERSION, _CODE32_START = 0x1F1, 0x1F4, 0x202, 0x206, 0x214
_KERNEL_ALIGNMENT, _RELOCATABLE, _MIN_ALIGNMENT = 0x230, 0x234, 0x235
_PAYLOAD_OFFSET, _PAYLOAD_LENGTH, _PREF_ADDRESS, _INIT_SIZE = 0x248, 0x24C, 0x258, 0x260
_LOWEST_VERSION = 0x20A  # the first one with init_size

_PT_LOAD = 1


class BzImageError(ValueError):
    """The image is not of the form that can be repacked; it can still be booted as it is."""


def unpacked(image: bytes, elf: bytes) -> bytes:
    """Returns a bzImage with the header of the bzImage `image` and the uncompressed ELF kernel `elf` in it."""
    if len(image) < 0x268 or image[_MAGIC:_MAGIC + 4] != b"HdrS":
        raise BzImageError("not a bzImage: no HdrS header")
    if struct.unpack_from("<H", image, _VERSION)[0] < _LOWEST_VERSION:
        raise BzImageError("the bzImage's boot protocol is older than 2.10")
    setup_bytes = (image[_SETUP_SECTORS] + 1) * _SECTOR_BYTES
    address, entry, flat, memory_bytes = _flatten(elf)

    base = address - _STUB_BYTES
    body = _stub(base, entry, address + len(flat), address + memory_bytes) + flat
    setup = bytearray(image[:setup_bytes])
    struct.pack_into("<I", setup, _SYSSIZE, len(body) // 16)
    struct.pack_into("<I", setup, _CODE32_START, _BZIMAGE_ADDRESS)
    # "Relocatable" is what makes a loader honour the preferred address, where alone this image runs.
    struct.pack_into("<IBB", setup, _KERNEL_ALIGNMENT, _PAGE_BYTES, 1, 12)
    struct.pack_into("<II", setup, _PAYLOAD_OFFSET, 0, 0)
    struct.pack_into("<Q", setup, _PREF_ADDRESS, base)
    struct.pack_into("<I", setup, _INIT_SIZE, _STUB_BYTES + memory_bytes)
    return bytes(setup) + body


def _flatten(elf: bytes) -> tuple[int, int, bytes, int]:
    """(physical address, entry, content without its trailing zeros, bytes of memory) of a 64-bit ELF kernel."""
    if elf[:5] != b"\x7fELF\x02":
        raise BzImageError("the uncompressed kernel is not a 64-bit ELF file")
    entry, table = struct.unpack_from("<QQ", elf, 24)
    entry_bytes, entries = struct.unpack_from("<HH", elf, 54)
    segments = []
    for number in range(entries):
        kind, _, offset, _, physical, file_bytes, memory_bytes, _ = struct.unpack_from(
            "<IIQQQQQQ", elf, table + number * entry_bytes)
        if kind == _PT_LOAD:
            segments.append((physical, elf[offset:offset + file_bytes], memory_bytes))
    if not segments:
        raise BzImageError("the ELF kernel has nothing to load")
    start = min(physical for physical, _, _ in segments)
    end = max(physical + memory_bytes for physical, _, memory_bytes in segments)
    if not start <= entry < end or start < 2 * _BZIMAGE_ADDRESS or end >= 1 << 32:
        raise BzImageError(f"unexpected addresses: entry {entry:#x} in [{start:#x}, {end:#x})")
    memory = bytearray(end - start)
    for physical, content, _ in segments:
        memory[physical - start:physical - start + len(content)] = content
    used = len(memory.rstrip(b"\0"))
    used += -used % _PAGE_BYTES
    return start, entry, bytes(memory[:used]), len(memory)


def _stub(base: int, entry: int, zero_start: int, zero_end: int) -> bytes:
    """32-bit code at `base`, entered with esi = boot_params, that zeroes [zero_start, zero_end), as the image leaves
    trailing zeros out, and jumps to `entry` in 64-bit mode with the first 4 GiB mapped one to one."""
    gdt, gdt_pointer, long_mode, page_tables = base + 0x100, base + 0x120, base + 0x80, base + _PAGE_BYTES
    protected_code = b"".join((
        b"\xfa\xfc",                                                  # cli; cld
        b"\xbf" + struct.pack("<I", zero_start),                      # mov edi, zero_start
        b"\xb9" + struct.pack("<I", (zero_end - zero_start + 3) // 4),  # mov ecx, count
        b"\x31\xc0\xf3\xab",                                          # xor eax, eax; rep stosd
        b"\x0f\x01\x15" + struct.pack("<I", gdt_pointer),             # lgdt [gdt_pointer]
        b"\xb8\x20\0\0\0\x0f\x22\xe0",                                # cr4 = PAE
        b"\xb8" + struct.pack("<I", page_tables) + b"\x0f\x22\xd8",   # cr3 = page_tables
        b"\xb9\x80\0\0\xc0\x0f\x32\x0d\0\x01\0\0\x0f\x30",            # EFER |= LME
        b"\xb8\x01\0\0\x80\x0f\x22\xc0",                              # cr0 = PG | PE
        b"\xea" + struct.pack("<IH", long_mode, 0x10),                # jmp 0x10:long_mode
    ))
    long_mode_code = b"".join((
        b"\xb8\x18\0\0\0\x8e\xd8\x8e\xc0\x8e\xd0",                    # ds = es = ss = 0x18
        b"\x89\xf6",                                                  # mov esi, esi: clears the upper half of rsi
        b"\xb8" + struct.pack("<I", entry) + b"\xff\xe0",             # jmp entry
    ))
    # The selectors 0x10 and 0x18 are the boot protocol's __BOOT_CS and __BOOT_DS.
    descriptors = struct.pack("<QQQQ", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF)
    stub = bytearray(_STUB_BYTES)
    for address, content in ((base, protected_code), (long_mode, long_mode_code), (gdt, descriptors),
                             (gdt_pointer, struct.pack("<HI", len(descriptors) - 1, gdt))):
        stub[address - base:address - base + len(content)] = content
    # Page 1: the top level, page 2: the next, pages 3 to 6: 2 MiB pages.
    present_writable, large = 0x3, 0x80
    struct.pack_into("<Q", stub, 1 * _PAGE_BYTES, base + 2 * _PAGE_BYTES | present_writable)
    for gib in range(4):
        struct.pack_into("<Q", stub, 2 * _PAGE_BYTES + 8 * gib, base + (3 + gib) * _PAGE_BYTES | present_writable)
    for page in range(4 * 512):
        struct.pack_into("<Q", stub, 3 * _PAGE_BYTES + 8 * page, page << 21 | present_writable | large)
    return bytes(stub)
