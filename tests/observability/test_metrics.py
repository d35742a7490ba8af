"""What an agent exports is what docs/metrics.md says, and in good form."""

from __future__ import annotations

import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from ..programs import SimAgent
from ..programs.certificates import Authority
from ..security.agent import TlsAgent
from .prometheus import ROOT, program
from .scrape import Family, fetch, parse
from .simulated import FleetOfTwo

DOCUMENT = ROOT / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def text() -> Iterator[str]:
    """A live scrape of a destination: some handoffs, some of them refused, an ioctl that failed."""
    with FleetOfTwo("metrics_per_vm=3") as fleet:
        fleet.hand_over("vm-1")
        fleet.be_refused("vm-2")
        yield fetch(fleet.metrics_urls[1])


@pytest.fixture(scope="module")
def families(text: str) -> dict[str, Family]:
    """Also those that only an agent with TLS has."""
    with tempfile.TemporaryDirectory(prefix="tls") as name:
        directory = pathlib.Path(name)
        files = Authority(directory / "authority").issue("agent", "DNS:agent.example.org,IP:127.0.0.1")
        with TlsAgent(directory, files) as agent:
            certified = parse(agent.metrics())
    return parse(text) | {name: family for name, family in certified.items() if name.startswith("tsc_agent_certificate_")}


def documented() -> dict[str, tuple[str, str]]:
    return {name: (kind, meaning) for name, kind, meaning in _ROW.findall(DOCUMENT.read_text())}


def test_the_table_has_every_metric_and_no_other(families: dict[str, Family]) -> None:
    kinds = {name: family.kind for name, family in families.items()}
    assert kinds == {name: kind for name, (kind, _) in documented().items()}


def test_the_table_names_every_label(families: dict[str, Family]) -> None:
    previous = ""
    for name, (_, meaning) in documented().items():
        said = set(re.findall(r"`(\w+)`", meaning.replace("the same", previous)))
        missing = families[name].labels - said if name in families else set()
        assert not missing, f"{name}: docs/metrics.md does not name {missing}"
        previous = meaning


def test_promtool_has_nothing_to_say(text: str) -> None:
    done = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_may_be_counted_is_there_from_the_start() -> None:
    with SimAgent("--host", "svm:2600000", "--metrics") as agent:
        fresh = parse(fetch(f"http://127.0.0.1:{agent.ready['hosts'][0]['metrics_port']}/metrics"))
    # Which peers and VMs there will be cannot be known before, and this agent has no TLS.
    assert documented().keys() - fresh.keys() == {
        "tsc_agent_peer_clock_offset_seconds", "tsc_agent_peer_clock_offset_error_seconds", "tsc_agent_peer_round_trip_seconds",
        "tsc_agent_vm_vcpus", "tsc_agent_vm_running", "tsc_agent_vm_phase_spread_ticks",
        "tsc_agent_certificate_start_timestamp_seconds", "tsc_agent_certificate_expiry_timestamp_seconds"}
    phases = fresh["tsc_agent_handoff_phases_total"].samples
    assert set(phases.values()) == {0.0}
    reasons = {re.search(r'reason="(\w*)"', series)[1] for series in phases}  # type: ignore[index]
    proto = (ROOT / "proto/tschandoff/v1/error_reason.proto").read_text()
    assert reasons == {"", *re.findall(r"^  ([A-Z_]+) = [1-9]", proto, re.MULTILINE)}


def test_only_as_many_vms_have_series_as_are_permitted(families: dict[str, Family]) -> None:
    assert len(families["tsc_agent_vm_vcpus"].samples) == 3
    with FleetOfTwo() as fleet:
        assert not any("vm" in family.labels for family in parse(fetch(fleet.metrics_urls[0])).values())
