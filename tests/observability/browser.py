"""Opens the console pages in a real browser; browse.mjs does it."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Any

from .prometheus import ROOT, Prometheus
from .shown import node

_DRIVER = pathlib.Path(__file__).with_name("browse.mjs")
PICTURES = ROOT / "test-results" / "pages"


@dataclass(frozen=True)
class Visit:
    pages: dict[str, dict[str, Any]]  # by name: alerts, panels by id, links
    unreachable: str                  # what the fleet's page says without Prometheus
    problems: list[str]

    def states(self) -> dict[str, str]:
        """"page/panel" -> "shown", "empty" or "error" with what it says."""
        return {f"{page}/{panel['id']}": panel["state"] if panel["state"] == "shown" else f"{panel['state']}: {panel['text']}"
                for page, seen in self.pages.items() for panel in seen["panels"]}


def browse(prometheus: Prometheus, prefix: str, *pages: str) -> Visit:
    """All pages, or those that are named. Pictures are kept as test-results/pages/PREFIX-...png."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    seen = json.loads(node(str(_DRIVER), prometheus.url, str(PICTURES), prefix, *pages, timeout=240))
    return Visit({page["page"]: page for page in seen["pages"]}, seen["unreachable"], seen["problems"])
