"""What the agents held of their hosts over time, by the process they were, and how large their journals were."""

from __future__ import annotations

import pathlib
from collections import defaultdict

from .arena import Arena
from .resources import Resources

# A process that was looked at so often has shown what it settles at; connections of the round before may still be about to
# end at one look. What it holds later may be more by the margins: less than 4 MiB the agent does not give back
# (server/agent/memory_watch.cc), and gRPC adds threads when all that it has are busy, and ends them late.
SETTLED = 3
MORE_KIB, MORE_THREADS = 16 << 10, 8
# Of a journal, whose agent forgets what ended soon: far more than the last handoffs of the VMs take, far less than all. SQLite
# takes its log over at 16 MiB (server/journal/sqlite_journal.cc), and begins it anew.
MOST_BYTES, MOST_LOG_BYTES = 1 << 20, 17 << 20


def journal_sizes(directory: pathlib.Path) -> tuple[int, int]:
    """In bytes: what was taken over, and the log."""
    return (directory / "journal.db").stat().st_size, (directory / "journal.db-wal").stat().st_size


class Lives:
    """Looks when nothing is under way."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], list[Resources]] = defaultdict(list)  # by host and process
        self._journals: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])

    def look(self, arena: Arena) -> None:
        for host, (pid, held) in enumerate(zip(arena.pids(), arena.resources(), strict=True)):
            self._held[host, pid].append(held)
            self._journals[host].append(journal_sizes(arena.directory(host)))

    def check(self) -> None:
        """All flat."""
        judged = set()
        for (host, pid), held in self._held.items():
            if len(held) < 2 * SETTLED:
                continue
            judged.add(host)
            first, last = held[:SETTLED], held[-SETTLED:]
            print(f"host {host}, process {pid}, {len(held)} looks: {first[-1]}; at the end {last[-1]}")
            limit = Resources(max(one.rss_kib for one in first) + MORE_KIB, max(one.descriptors for one in first),
                              max(one.threads for one in first) + MORE_THREADS)
            assert any(one.within(limit) for one in last), (limit, last)
        assert judged == {0, 1}, "no process of one of the hosts lived for long"
        for host, sizes in enumerate(self._journals):
            largest, longest_log = (max(column) for column in zip(*sizes, strict=True))
            print(f"host {host}, journal: at most {largest:,} bytes, with a log of {longest_log:,}")
            assert largest <= MOST_BYTES and longest_log <= MOST_LOG_BYTES, sizes
