"""The benchmark works and its report is well formed. How fast anything is, is no matter of a test."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from . import abuse_figures, attach_figures, bench, figures, handoff_figures, scrape_figures

SERIES = {"bare_get", "bare_set", "empty_rpc", "get", "set", "floor_get", "floor_set", "host_info_rpc", "get_vm_rpc",
          "compare_clocks", "port_get", "port_set", "operation_get", "operation_set"}


def needs_programs() -> None:
    if not os.environ.get("TSC_BAZEL_BIN"):
        pytest.skip("TSC_BAZEL_BIN is not set: start this with ./run test")


def check_result(result: dict[str, Any]) -> None:
    assert set(result["series"]) == SERIES
    assert result["rounds"] >= 5
    assert bool(result["failed_rounds"]) == bool(result["failure"])
    for name, series in result["series"].items():
        assert series["count"] >= 1, name
        assert 0 < series["min_ns"] <= series["p50_ns"] <= series["p90_ns"] <= series["p99_ns"] <= series["max_ns"], name
    assert result["series"]["get"]["count"] == result["rounds"]
    # A floor is made of both its parts.
    assert result["series"]["floor_set"]["min_ns"] >= result["series"]["bare_set"]["min_ns"]
    assert set(result["ratio"]) == {"get", "set"}
    assert result["reference"]["width"]["p50_ns"] > 0
    assert result["reference"]["trust_check"]["p50_ns"] > 0
    assert result["guard"]["admission"]["p50_ns"] > 0
    assert result["guard"]["audit_line"]["p50_ns"] > 0
    assert result["probe"]["rounds"] == 8
    assert result["probe"]["duration"]["p50_ns"] > 0


def test_quick_simulated_gives_a_well_formed_report(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_programs()
    path = tmp_path / "report.json"
    assert bench.main(["--quick", "--only", "simulated", "--report", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["format"] == "tsc-handoff-bench/1"
    assert [environment["name"] for environment in report["environments"]] == ["simulated", "simulated-1us"]
    for environment in report["environments"]:
        assert [result["vcpus"] for result in environment["results"]] == [1, 8, 64, 256, 1024]
        for result in environment["results"]:
            check_result(result)
        # More vCPUs take longer, or something else was measured.
        bare = [result["series"]["bare_set"]["p50_ns"] for result in environment["results"]]
        assert bare[-1] > bare[0]
    # Two methods, two percentiles and two sizes in each environment; trust check, probe and width of these clocks.
    assert len(report["targets"]) == 16 + 5
    assert report["memory"] is None
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    assert "targets: " in capsys.readouterr().out


def test_quick_memory_counts_the_vms(tmp_path: pathlib.Path) -> None:
    needs_programs()
    path = tmp_path / "report.json"
    assert bench.main(["--quick", "--only", "memory", "--report", str(path)]) == 0
    memory = json.loads(path.read_text())["memory"]
    assert memory["vms"] == 20 and memory["vcpus"] == 64
    assert 0 < memory["rss_empty_bytes"] <= memory["rss_bytes"] <= memory["rss_peak_bytes"]


def test_quick_handoffs_give_a_well_formed_report(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_programs()
    path = tmp_path / "report.json"
    assert bench.main(["--quick", "--only", "handoffs", "--report", str(path)]) == 0
    handoffs = json.loads(path.read_text())["handoffs"]
    series = handoffs["one"]["series"]
    assert series["floor_apart"]["min_ns"] >= series["syncs"]["min_ns"] + series["empty_rpcs"]["min_ns"]
    assert series["floor"]["count"] >= 30
    assert series["capture"]["count"] >= handoffs["one"]["rounds"] >= 30
    assert [evacuation["parallel"] for evacuation in handoffs["evacuations"]] == [1, 4, 16, 64]
    for evacuation in handoffs["evacuations"]:
        assert evacuation["vms"] == 20 and 0 < evacuation["handoffs_per_second"]
        assert 0 < evacuation["commits_per_handoff"] < 5.2, "a handoff has 5 changes, which may share syncs"
    # One at a time shares none; the compaction after the start is a commit, too.
    assert 5 <= handoffs["evacuations"][0]["commits_per_handoff"] < 5.2
    assert 0 < handoffs["start_seconds"]
    assert "20 VMs of 16 vCPUs" in capsys.readouterr().out


def test_quick_attach_gives_a_well_formed_report(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_programs()
    path = tmp_path / "report.json"
    assert bench.main(["--quick", "--only", "attach", "--report", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [place["name"] for place in report["attached"]] == ["real", "simulated-1us"]
    for place in report["attached"]:
        assert [result["vcpus"] for result in place["results"]] == [1, 8, 64, 255]
        for result in place["results"]:
            assert result["rounds"] >= 5
            for operation in ("capture", "apply"):
                series = result["series"]
                assert 0 < series[f"attached_{operation}_stop"]["min_ns"] < series[f"attached_{operation}"]["p50_ns"]
                assert 0 < series[f"bare_{operation}"]["min_ns"] < series[f"cooperative_{operation}"]["p50_ns"]
            assert result["steps"]["capture.attach.ran"]["count"] >= result["rounds"]
    assert len(report["targets"]) == 8
    assert "stop / coop" in capsys.readouterr().out


def test_quick_scrape_gives_a_well_formed_report(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_programs()
    path = tmp_path / "report.json"
    assert bench.main(["--quick", "--only", "scrape", "--report", str(path)]) == 0
    plain, per_vm = json.loads(path.read_text())["scrapes"]
    assert (plain["vms"], plain["per_vm"], per_vm["per_vm"]) == (20, 0, 20)
    # Two series for each VM that nobody observes.
    assert per_vm["samples"] == plain["samples"] + 2 * 20
    for scrape in (plain, per_vm):
        assert 0 < scrape["p50_seconds"] <= scrape["p99_seconds"]
        assert 0 < scrape["compressed_bytes"] < scrape["bytes"]
    assert "20 VMs, none with metrics of their own" in capsys.readouterr().out


def test_quick_tls_compares_with_the_unix_socket(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_programs()
    path = tmp_path / "report.json"
    assert bench.main(["--quick", "--only", "tls", "--report", str(path)]) == 0
    cost = json.loads(path.read_text())["tls"]
    assert cost["rounds"] >= 30
    assert 0 < cost["tls_p50_ns"] <= cost["tls_p99_ns"] and 0 < cost["unix_p50_ns"] <= cost["unix_p99_ns"]
    # A handshake has signatures; a call has none.
    assert cost["tls_connect_p50_ns"] > cost["tls_p50_ns"]
    assert cost["ratio_p50"] == round(cost["tls_p50_ns"] / cost["unix_p50_ns"], 3)
    assert "an empty RPC with mutual TLS over loopback" in capsys.readouterr().out


def test_a_scrape_is_judged_at_full_size_and_without_metrics_of_vms() -> None:
    def scrape(vms: int, per_vm: int, size: int) -> scrape_figures.Scrape:
        return scrape_figures.Scrape(vms, per_vm, 100, 0.01, 0.06, size, 1, 1)

    assert [target.met for target in figures.targets([], None, scrapes=[scrape(1000, 0, 200_000)])] == [True, False, True]
    assert not figures.targets([], None, scrapes=[scrape(1000, 0, 200_001)])[2].met
    assert figures.targets([], None, scrapes=[scrape(20, 0, 1), scrape(1000, 1000, 1 << 30)]) == []


def test_a_handoff_under_abuse_may_take_three_times_as_long_at_its_worst() -> None:
    def report(p50_ns: int, p99_ns: int) -> dict[str, Any]:
        series = {"p50_ns": p50_ns, "p99_ns": p99_ns}
        return {"rounds": 9, "failed_rounds": 0, "series": {"handoff": series, "floor": series}}

    def abuse(p99_ns: int) -> abuse_figures.Abuse:
        return abuse_figures.Abuse([report(2_000_000, 4_000_000), report(1_000_000, 5_000_000)], report(9_000_000, p99_ns), 77)

    assert [target.met for target in figures.targets([], None, abused=abuse(15_000_000))] == [True]
    assert [target.met for target in figures.targets([], None, abused=abuse(15_100_000))] == [False]
    text = figures.as_text([], None, abused=abuse(15_000_000))
    assert "77 attempts" in text and "9 handoffs, 0 failed" in text and "5.0 ms undisturbed, 15.0 ms under abuse (3.00 times)" in text


def test_a_stop_of_an_attached_vmm_is_judged_at_64_vcpus() -> None:
    def place(vcpus: int, stop: int) -> attach_figures.Attached:
        series = {f"{name}_ns": 100 for name in attach_figures.PERCENTILES}
        names = [f"{kind}_{operation}" for kind in ("bare", "cooperative", "attached") for operation in attach_figures.OPERATIONS]
        stops = {f"attached_{operation}_stop": {"p50_ns": stop, "p99_ns": 100} for operation in attach_figures.OPERATIONS}
        step = {"capture.attach.ran": {"p50_ns": 5_000}}
        return attach_figures.Attached("real", "a node", [
            {"vcpus": vcpus, "rounds": 9, "failed_rounds": 0, "failure": "", "series": dict.fromkeys(names, series) | stops,
             "steps": step}])

    assert [target.met for target in figures.targets([], None, attached=[place(64, 301)])] == [False, True] * 2
    assert [target.met for target in figures.targets([], None, attached=[place(64, 300)])] == [True] * 4
    assert figures.targets([], None, attached=[place(255, 999)]) == []
    text = figures.as_text([], None, attached=[place(64, 301)])
    assert "2 of 4 met" in text and "ran 5.0" in text and "3.01" in text


def test_throughput_must_grow_until_something_is_full() -> None:
    def evacuation(parallel: int, rate: float, cores: float = 0.5, journal: float = 0.5) -> dict[str, Any]:
        return {"parallel": parallel, "handoffs_per_second": rate, "cores_busy": cores, "journal_busy": journal}

    assert handoff_figures.stalls([evacuation(1, 100), evacuation(4, 300), evacuation(16, 301)]) == [16]
    assert not handoff_figures.stalls([evacuation(1, 100), evacuation(4, 300, cores=0.95), evacuation(16, 290, cores=0.95)])
    assert not handoff_figures.stalls([evacuation(1, 100), evacuation(4, 300), evacuation(16, 290, journal=0.9)])
    assert handoff_figures.what_is_full(evacuation(1, 1, 0.9, 0.9)) == "the cores and a journal's disk"


def fake_result(vcpus: int, bare: int, empty: int, rpc: int) -> dict[str, Any]:
    def series(value: int) -> dict[str, int]:
        return {f"{percentile}_ns": value for percentile in ("min", *figures.PERCENTILES)}

    values = {"empty_rpc": empty, "compare_clocks": 9 * empty}
    for method in figures.METHODS:
        values |= {f"bare_{method}": bare, f"floor_{method}": bare + empty, method: rpc, f"port_{method}": bare + 5,
                   f"operation_{method}": bare + 7}
    spread = {"p50_ns": 40, "p99_ns": 50}
    return {"vcpus": vcpus, "rounds": 100, "failed_rounds": 0, "failure": "", "series": {name: series(value) for name, value in values.items()},
            "reference": {"width": spread, "cost": spread, "single_bracket_width": spread, "trust_check": spread},
            "guard": {"admission": spread, "audit_line": spread},
            "probe": {"rounds": 8, "duration": spread, "offset_error": spread}}


def test_missed_targets_are_named_and_explained() -> None:
    missed = figures.Environment("real", "a node", [fake_result(64, 100, 100, 251)], "0", "0")
    assert [target.met for target in figures.targets([missed], None)] == [False] * 4 + [True] * 4
    assert figures.stages_ns(missed.results[0], "get") == {
        "port": 5, "reference and arithmetic": 2, "service": 44, "all": 51}
    text = figures.as_text([missed], None)
    assert "4 of 8 met" in text and "what holds it back" in text and "NO" in text


def test_what_authorisation_costs_is_said_beside_an_empty_rpc() -> None:
    result = fake_result(8, 1, 1, 3)
    result["series"]["empty_rpc"]["p50_ns"] = 90_000
    result["guard"] = {"admission": {"p50_ns": 1_000, "p99_ns": 2_000}, "audit_line": {"p50_ns": 8_000, "p99_ns": 9_000}}
    line = figures.guard_line(figures.Environment("simulated", "a host", [result], "0", "0"))
    assert "may he 1.0 us p50" in line and "the audit 8.0 us p50" in line and "takes 1.10 of an empty RPC" in line


def test_slow_clocks_are_named() -> None:
    slow = fake_result(8, 1, 1, 3)
    slow["reference"]["trust_check"] = {"p50_ns": 1000, "p99_ns": 1001}
    slow["series"]["compare_clocks"]["p99_ns"] = 20_100_000
    missed = [(target.what, target.percentile) for target in
              figures.targets([figures.Environment("real", "a node", [slow], "0", "0")], None) if not target.met]
    assert missed == [("knowing whether the clock is trusted, in ns", "p99"), ("a probe of 8 rounds, in ms", "p99")]


def test_failed_rounds_are_shown() -> None:
    result = fake_result(8, 1, 1, 3) | {"failed_rounds": 2, "failure": "set: VMM_GONE"}
    assert "2 more rounds failed, the last one with: set: VMM_GONE" in figures.as_text(
        [figures.Environment("real", "a node", [result], "0", "0")], None)


def test_met_targets_need_no_explanation() -> None:
    met = figures.Environment("real", "a node", [fake_result(64, 100, 100, 250), fake_result(1024, 100, 100, 300),
                                                 fake_result(8, 1, 1, 1000)], "0", "0")
    text = figures.as_text([met], None)
    assert "12 of 12 met" in text and "what holds it back" not in text and "NO" not in text


@pytest.mark.parametrize(("rss_mib", "met"), [(64, True), (65, False)])
def test_memory_is_judged_at_full_size_only(rss_mib: int, met: bool) -> None:
    full = figures.Memory(1000, 64, 1 << 20, rss_mib << 20, rss_mib << 20, 1.0)
    assert [target.met for target in figures.targets([], full)] == [met]
    assert figures.targets([], figures.Memory(20, 64, 1, 1 << 30, 1 << 30, 1.0)) == []


@pytest.mark.parametrize("arguments", [["--only", "everything"], ["--report", "/nonexistent/directory/x.json"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(arguments)
    assert stopped.value.code == 2
