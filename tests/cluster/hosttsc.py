"""The machine's own TSC frequency, measured once per process. Thread-safe only in that a race measures twice."""

from __future__ import annotations

import ctypes
import functools
import mmap
import time

_WINDOW_NS = 200_000_000
# lfence; rdtsc; shl rdx, 32; or rax, rdx; ret
_RDTSC = b"\x0f\xae\xe8\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3"


@functools.cache
def machine_tsc_khz() -> int:
    """The rate of this machine's TSC against CLOCK_MONOTONIC_RAW, which ticks with it, in kHz."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_RDTSC)
    anchor = ctypes.c_char.from_buffer(code)
    read_tsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))

    def sample() -> tuple[int, int]:
        """(TSC, ns) of the narrowest of some brackets; the first calls are slow and drop out."""
        best: tuple[int, int, int] | None = None
        for _ in range(200):
            before = read_tsc()
            now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            after = read_tsc()
            if best is None or after - before < best[0]:
                best = (after - before, (before + after) // 2, now_ns)
        assert best is not None
        return best[1], best[2]

    tsc_0, ns_0 = sample()
    time.sleep(_WINDOW_NS / 1e9)
    tsc_1, ns_1 = sample()
    return round((tsc_1 - tsc_0) * 1_000_000 / (ns_1 - ns_0))
