"""Rules and alerts do what they say; each alert has a runbook whose commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from ..programs import binary
from .prometheus import DEPLOY, program

RULES = sorted((DEPLOY / "prometheus").glob("*.rules.yml")) + sorted((DEPLOY / "prometheus").glob("*.alerts.yml"))
UNIT_TESTS = DEPLOY / "prometheus" / "tests" / "alerts_test.yml"
RUNBOOKS = DEPLOY / "runbooks"
# Programs of Debian that runbooks call. What they print is not ours; that they and their subcommands exist is checked by
# hand, and for chronyc here.
PROGRAMS = {"systemctl", "journalctl", "chronyc", "vmstat", "cat", "df", "findmnt", "systemd-detect-virt", "grep"}
CHRONYC = {"tracking", "sources", "sourcestats", "makestep", "burst"}


def alerts() -> dict[str, str]:
    """Each alert's part of its file."""
    text = (DEPLOY / "prometheus" / "tsc-handoff.alerts.yml").read_text()
    parts = re.split(r"^      - alert: ", text, flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


def promtool(*arguments: str) -> str:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_rules_and_the_example() -> None:
    promtool("check", "rules", *map(str, RULES))
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(UNIT_TESTS))


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_is_tested_to_fire_to_be_silent_and_to_resolve(alert: str) -> None:
    parts = re.findall(rf"- eval_time: \S+\n        alertname: {alert}\n((?:        .+\n)*)", UNIT_TESTS.read_text() + "\n")
    fired = ["exp_alerts" in part for part in parts]
    assert True in fired, "never fires"
    assert not fired[0], "fires from the start"
    assert fired[fired.index(True):][1:2] == [False], "never resolves"


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_has_a_severity_and_a_runbook(alert: str) -> None:
    text = alerts()[alert]
    assert re.search(r"^          severity: (critical|warning)$", text, re.MULTILINE)
    assert f"/consoles/tsc-runbook-{alert}.html'" in text
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Remedy"]
    assert f"[{alert}]({alert}.md)" in (RUNBOOKS / "README.md").read_text()


def test_there_is_no_runbook_without_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {"README", *alerts()}


def commands(page: str) -> list[str]:
    """Lines of code blocks, and code in the text that begins with a program's name. Wrapped code is joined."""
    lines = [line.strip() for line in re.findall(r"^ {4,}(.+)$", page, re.MULTILINE) if not line.lstrip().startswith("|")]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", page)]
    names = {"tscctl", *PROGRAMS}
    found = [line for line in lines if line.split()[0] in names] + [span for span in spans if span.split()[0] in names]
    return [part.strip() for line in found for part in line.split(" | ")]


@pytest.fixture(scope="module")
def tscctl_helps() -> dict[str, str]:
    def help_of(*words: str) -> str:
        done = subprocess.run([binary("client/tscctl/tscctl"), *words, "--help"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    general = help_of()
    names = re.findall(r"^  ([a-z-]+)  +\S", general.split("Subcommands:")[1].split("\n\n")[0], re.MULTILINE)
    return {"": general, **{name: help_of(name) for name in names}}


def check_tscctl(command: str, helps: dict[str, str]) -> None:
    words = shlex.split(command)[1:]
    subcommand = next((word for i, word in enumerate(words)
                       if not word.startswith("-") and (i == 0 or words[i - 1] not in ("--agent", "-o", "--timeout"))), None)
    assert subcommand in helps, f"tscctl has no command {subcommand!r}: {command}"
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"^ +(-\w,)?{option}\b", helps[subcommand] + helps[""], re.MULTILINE), f"no {option}: {command}"


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("Tsc*.md")), ids=lambda path: path.stem)
def test_a_runbooks_commands_exist(path: object, tscctl_helps: dict[str, str]) -> None:
    found = commands(path.read_text())  # type: ignore[attr-defined]
    assert found, "a runbook without a command"
    for command in found:
        name = command.split()[0]
        if name == "tscctl":
            if len(command.split()) > 1:
                check_tscctl(command, tscctl_helps)
        elif name == "chronyc":
            assert command.split()[1] in CHRONYC, command
        else:
            assert name in PROGRAMS, command


def test_every_link_between_runbooks_leads_somewhere() -> None:
    for path in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).resolve().is_file(), f"{path.name} links {target}"
