"""What is checked in is what deploy/dashboards makes."""

from __future__ import annotations

import json
import pathlib

import pytest

from .prometheus import DEPLOY
from .shown import DASHBOARDS, console_queries, grafana_queries, node


def files(directory: pathlib.Path) -> dict[str, str]:
    patterns = ("grafana/*.json", "prometheus/consoles/*.html", "prometheus/console_libraries/*.lib")
    return {str(path.relative_to(directory)): path.read_text() for pattern in patterns for path in directory.glob(pattern)}


def test_generated_files_are_up_to_date(tmp_path: pathlib.Path) -> None:
    node(str(DASHBOARDS / "build.mjs"), str(tmp_path))
    fresh, kept = files(tmp_path), files(DEPLOY)
    assert sorted(fresh) == sorted(kept)
    for name, text in fresh.items():
        assert kept[name] == text, f"deploy/{name} is old: node deploy/dashboards/build.mjs"


def test_grafana_asks_what_the_console_pages_ask() -> None:
    def asked(queries: object) -> set[str]:
        return {query.expression for query in queries}  # type: ignore[attr-defined]

    only_grafana = asked(grafana_queries()) - asked(console_queries())
    assert only_grafana == {'ALERTS{alertname=~"Tsc.*", alertstate="firing"}'}, "the pages get alerts from another API"
    only_pages = asked(console_queries()) - asked(grafana_queries())
    assert len(only_pages) == 1 and "rate(" in only_pages.pop(), "Grafana draws a number's sparkline from its own query"


@pytest.mark.parametrize("path", sorted((DEPLOY / "grafana").glob("*.json")), ids=lambda path: path.stem)
def test_a_dashboards_panels_do_not_overlap(path: pathlib.Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == path.stem
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells
