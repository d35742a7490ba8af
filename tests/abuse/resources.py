"""What a process holds of its host, as the kernel counts it."""

from __future__ import annotations

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Resources:
    rss_kib: int
    descriptors: int
    threads: int

    def within(self, limit: Resources) -> bool:
        return self.rss_kib <= limit.rss_kib and self.descriptors <= limit.descriptors and self.threads <= limit.threads

    def __str__(self) -> str:
        return f"{self.rss_kib / 1024:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"


def of_process(pid: int) -> Resources:
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
    return Resources(int(fields["VmRSS"].split()[0]), descriptors, int(fields["Threads"]))
