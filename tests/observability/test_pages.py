"""What the console pages say when there is nothing to say."""

from __future__ import annotations

from .browser import browse
from .prometheus import Prometheus


def test_a_prometheus_without_agents_and_rules_is_told_apart_from_one_where_all_is_well() -> None:
    with Prometheus({}, rules=False) as prometheus:
        visit = browse(prometheus, "nothing", "tsc-fleet", "tsc-host", "tsc-handoff")
    assert visit.problems == []
    for page in visit.pages.values():
        assert "The alert rules are not loaded" in page["alerts"]
    states = visit.states()
    assert "scrapes no tsc-agent" in states["tsc-fleet/hosts"]
    assert states["tsc-handoff/steps"] == "empty: No handoff was made in this time."
    assert not any(state.startswith("error") for state in states.values()), states
    assert "Prometheus does not answer" in visit.unreachable
