"""Everything that operators are shown, on the two-node cluster during real handoffs.

The tests of this file build on one another: first all is well, then a clock daemon is stopped and a handoff left, then both
are mended as the runbooks say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ..demo.lab import tscctl
from .browser import browse
from .cluster import WatchedCluster
from .prometheus import JOB, Prometheus, wait_for
from .shown import console_queries, filled, grafana_queries

# What was refused was so on node 2; the page shows node 1.
MAY_BE_EMPTY = {"tsc-host/rpc-errors", "tsc-host/failures"}
HANDOFFS = 8  # an even number
REFUSED = "instance_side_phase:tsc_agent_handoff_phase_failures:ratio10m"
GRAPH_STEP = "20s"  # of the pages' first range: so old may the last point of a graph be
ALERT_LIMIT_S = 60.0
EXAMPLE_INTERVAL = "10s"  # of deploy/prometheus/prometheus.yml


@pytest.fixture(scope="module")
def watched() -> Iterator[WatchedCluster]:
    with WatchedCluster() as watched:
        watched.hand_back_and_forth(HANDOFFS)
        watched.be_refused()
        arrived = 'sum(tsc_agent_handoff_changes_total{state="ACTIVE"})'
        wait_for(lambda: [float(one["value"][1]) for one in watched.prometheus.query(arrived)] == [HANDOFFS], "the handoffs were scraped")
        # Rates need a second sample after the event.
        wait_for(lambda: watched.prometheus.query(f"{REFUSED} > 0"), "the refused handoff became a rate")
        yield watched


def alert_expressions(prometheus: Prometheus) -> dict[str, str]:
    groups = prometheus.api("rules")["groups"]
    return {rule["name"]: rule["query"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"}


def recorded(prometheus: Prometheus) -> list[str]:
    groups = prometheus.api("rules")["groups"]
    return [rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "recording"]


def metric_names(expression: str) -> set[str]:
    """The names in an expression that are metrics': every one of ours has a prefix or a level."""
    words = "".join(c if c.isalnum() or c in "_:" else " " for c in expression).split()
    return {word for word in words if word.startswith(("tsc_agent_", "process_", "grpc_")) or ":tsc_agent_" in word or word == "up"}


def test_no_rule_fails(watched: WatchedCluster) -> None:
    for group in watched.prometheus.api("rules")["groups"]:
        for rule in group["rules"]:
            assert rule["health"] == "ok", rule


def test_every_recorded_series_is_there(watched: WatchedCluster) -> None:
    names = recorded(watched.prometheus)
    assert len(names) >= 9
    assert [name for name in names if not watched.prometheus.query_range(name, 120)] == []


def test_every_alert_asks_about_metrics_that_exist(watched: WatchedCluster) -> None:
    known = set(watched.prometheus.api("metadata")) | set(watched.prometheus.api("label/__name__/values"))
    for name, expression in alert_expressions(watched.prometheus).items():
        watched.prometheus.query(expression)  # raises where it cannot be evaluated
        asked = metric_names(expression)
        assert asked, f"{name} asks about no metric"
        for metric in asked:
            base = metric.removesuffix("_bucket")
            assert metric in known or base in known, f"{name}: no agent exports {metric}"


def test_every_query_of_every_panel_returns_something(watched: WatchedCluster) -> None:
    empty = []
    for query in [*console_queries(), *grafana_queries()]:
        if "ALERTS" in query.expression:
            continue  # nothing fires yet
        # Node 2 is where VMs arrive, and where the handoff was refused.
        found = watched.prometheus.query_range(filled(query.expression, "node2", 120), 120)
        values = [float(value) for series in found for _, value in series["values"]]
        if not any(value == value for value in values):
            empty.append(f"{query.where}: {query.expression}")
    assert empty == []


def test_nothing_fires_while_all_is_well(watched: WatchedCluster) -> None:
    # How fast emulated nodes answer, sync and tell the time is the machine's matter.
    timing = {"TscJournalSlow", "TscClockBoundNearLimit", "TscClockBoundGrowing", "TscHandoffFailing"}
    assert set(watched.prometheus.firing()) <= timing


EXPECTED = {"TscClockUntrusted": "node2", "TscHandoffUndecided": "node1"}


def go_wrong(watched: WatchedCluster, handoff_id: str) -> None:
    watched.lab.chronyds[1].kill()
    watched.leave_undecided(handoff_id)


def wait_for_alerts(prometheus: Prometheus, timeout: float) -> dict[str, float]:
    """Seconds until each of EXPECTED fires."""
    began = time.monotonic()
    took: dict[str, float] = {}

    def all_fire() -> bool:
        for name, alert in prometheus.firing().items():
            if name in EXPECTED and name not in took:
                assert alert["labels"]["instance"] == EXPECTED[name]
                took[name] = round(time.monotonic() - began, 1)
        return took.keys() == EXPECTED.keys()

    wait_for(all_fire, f"{set(EXPECTED)} fire", timeout)
    return took


def test_the_pages_show_all_of_it_in_a_browser(watched: WatchedCluster) -> None:
    # The alerts of the next test take their time meanwhile.
    go_wrong(watched, "left-alone")
    wait_for(lambda: watched.prometheus.query(f"{REFUSED} offset {GRAPH_STEP} > 0"), "what happened is old enough for graphs")
    visit = browse(watched.prometheus, "cluster")
    assert visit.problems == []
    states = {where: state for where, state in visit.states().items() if where not in MAY_BE_EMPTY}
    assert {where: state for where, state in states.items() if state != "shown"} == {}
    hosts = next(panel for panel in visit.pages["tsc-fleet"]["panels"] if panel["id"] == "hosts")
    assert "node1" in hosts["text"] and "node2" in hosts["text"]
    assert sum(page.startswith("tsc-runbook-") for page in visit.pages) == len(alert_expressions(watched.prometheus))
    assert "Prometheus does not answer" in visit.unreachable


def test_a_stopped_clock_daemon_and_a_lost_handoff_are_reported(watched: WatchedCluster) -> None:
    wait_for_alerts(watched.prometheus, ALERT_LIMIT_S)
    visit = browse(watched.prometheus, "trouble", "tsc-fleet")
    assert visit.problems == []
    fleet = visit.pages["tsc-fleet"]
    assert "The clock of node2 is not trusted" in fleet["alerts"] and "Handoffs on node1 are undecided (1)" in fleet["alerts"]
    assert {f"tsc-runbook-{name}.html" for name in EXPECTED} <= set(fleet["links"])


def test_the_runbook_of_an_undecided_handoff_works_as_written(watched: WatchedCluster) -> None:
    source, destination = watched.lab.agents
    stuck = tscctl("--agent", source.address, "-o", "json", "handoffs", "--stuck").json["handoffs"]
    assert [handoff["ticket"]["handoff_id"] for handoff in stuck] == ["left-alone"]
    assert tscctl("--agent", destination.address, "-o", "json", "handoffs", "--pending").json["handoffs"] == []
    aborted = tscctl("-o", "json", "abort", "left-alone", "--from", source.address, "--to", destination.address)
    assert aborted.json["outcome"] == "aborted"
    wait_for(lambda: "TscHandoffUndecided" not in watched.prometheus.firing(), "the alert resolves")


def test_the_runbook_of_an_untrusted_clock_works_as_written(watched: WatchedCluster) -> None:
    clock = tscctl("--agent", watched.lab.agents[1].address, "-o", "json", "clock").json
    assert not clock["trusted"] and clock["untrusted_reason"]
    watched.lab.chronyds[1].start()
    wait_for(lambda: "TscClockUntrusted" not in watched.prometheus.firing(), "the alert resolves", 90)


@pytest.mark.slow
def test_they_are_reported_within_a_minute_where_scrapes_are_as_rare_as_in_the_example(watched: WatchedCluster) -> None:
    with Prometheus(watched.targets, interval=EXAMPLE_INTERVAL) as prometheus:
        wait_for(lambda: len(prometheus.query(f'up{{job="{JOB}"}} == 1')) == 2, "it has scraped both")
        go_wrong(watched, "left-again")
        print(wait_for_alerts(prometheus, ALERT_LIMIT_S))
