"""Reads what an agent's /metrics says, in Prometheus' text format."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, field

_SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Family:
    kind: str
    labels: set[str] = field(default_factory=set)        # names, without `le`
    samples: dict[str, float] = field(default_factory=dict)  # "name{labels}" -> value


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def parse(text: str) -> dict[str, Family]:
    families: dict[str, Family] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            families[name] = Family(kind)
        elif line and not line.startswith("#"):
            found = _SAMPLE.match(line)
            assert found, f"not a sample: {line}"
            name = found[1]
            base = name if name in families else re.sub(r"_(bucket|sum|count)$", "", name)
            family = families[base]
            family.labels |= {label for label, _ in _LABEL.findall(found[2] or "")} - {"le"}
            family.samples[line.rpartition(" ")[0]] = float(found[3])
    return families
