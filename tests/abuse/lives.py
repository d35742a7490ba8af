"""What the agents held of their hosts over time, by the process they were, and how large their journals were."""

from __future__ import annotations

import pathlib
from collections import defaultdict

from .arena import Arena
from .resources import Resources

# A process that was looked at so often has shown what it settles at. What it holds later may be more by the margins: the
# allocator's, a thread of gRPC's, a page of SQLite's.
SETTLED = 5
MORE_KIB, MORE_THREADS = 8 << 10, 4
MORE_JOURNAL_BYTES = 128 << 10


def journal_bytes(directory: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("journal.db*"))


class Lives:
    """Looks when nothing is under way."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], list[Resources]] = defaultdict(list)  # by host and process
        self._journals: tuple[list[int], list[int]] = ([], [])

    def look(self, arena: Arena) -> None:
        for host, (pid, held) in enumerate(zip(arena.pids(), arena.resources(), strict=True)):
            self._held[host, pid].append(held)
            self._journals[host].append(journal_bytes(arena.directory(host)))

    def check(self) -> None:
        """All flat."""
        judged = set()
        for (host, pid), held in self._held.items():
            if len(held) < 2 * SETTLED:
                continue
            judged.add(host)
            first, last = held[:SETTLED], held[-1]
            print(f"host {host}, process {pid}, {len(held)} looks: {first[-1]}; at the end {last}")
            assert last.descriptors <= max(one.descriptors for one in first), (first, last)
            assert last.rss_kib <= max(one.rss_kib for one in first) + MORE_KIB, (first, last)
            assert last.threads <= max(one.threads for one in first) + MORE_THREADS, (first, last)
        assert judged == {0, 1}, "no process of one of the hosts lived for long"
        for host, sizes in enumerate(self._journals):
            print(f"host {host}, journal: {sizes[SETTLED]:,} bytes; at the end {sizes[-1]:,}")
            assert sizes[-1] <= max(sizes[:2 * SETTLED]) + MORE_JOURNAL_BYTES, sizes
