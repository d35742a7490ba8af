"""What operators are shown: the queries of all panels, as console pages and as Grafana have them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .prometheus import DEPLOY, ROOT

DASHBOARDS = DEPLOY / "dashboards"


@dataclass(frozen=True)
class Query:
    where: str  # for example "tsc-host/bound-graph" or "grafana tsc-host/Error bound"
    expression: str


def node(*arguments: str, timeout: float = 60.0) -> str:
    """The output of a program for node."""
    done = subprocess.run(["node", *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    assert done.returncode == 0, f"node {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def views() -> list[dict[str, Any]]:
    script = f"import {{ views }} from '{DASHBOARDS}/views.mjs'; console.log(JSON.stringify(views));"
    return list(json.loads(node("--input-type=module", "-e", script)))


def console_queries() -> Iterator[Query]:
    for view in views():
        for section in view["sections"]:
            for panel in section["panels"]:
                for query in panel["queries"]:
                    yield Query(f"{view['id']}/{panel['id']}", query["expr"])


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def grafana_queries() -> Iterator[Query]:
    for path in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in _panels(json.loads(path.read_text())):
            for target in panel.get("targets", []):
                yield Query(f"grafana {path.stem}/{panel['title']}", target["expr"])


def filled(expression: str, instance: str, range_s: int) -> str:
    """With what the pages put in: a host, or all where a pattern is asked for."""
    expression = expression.replace("$__rate_interval", "20s").replace("$__range", f"{range_s}s")
    return re.sub(r'=~"\$instance"', '=~".*"', expression).replace("$instance", instance)
