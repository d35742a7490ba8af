"""`tscctl top` in a real terminal: what it shows, its keys, its sizes, and that it leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..programs import SimAgent
from .agents import begin_handoff, look_at_vm, port_of, run_tscctl, start_host, tscctl
from .tmux import Tmux

VMS = 30


class Top:
    """`tscctl top` of these agents in a terminal; `before` stands before the command, as "env NO_COLOR=1"."""

    def __init__(self, tmux: Tmux, *addresses: str, before: str = "") -> None:
        self.tmux = tmux
        agents = ",".join(addresses)
        # The last word is put together by the shell, so that it is not on the screen before its time.
        tmux.type(f"stty -g > {tmux.directory}/before; clear; echo BEFORE; {before} {tscctl()} top --agent {agents}; "
                  f"echo status=$?; stty -g > {tmux.directory}/after; echo 'END''ED'\n")
        tmux.wait_for("tscctl top", "VMs")

    def pid(self) -> int:
        shell = int(self.tmux.tell("pane_pid"))
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[-1])

    def wait_end(self, status: int, *, second_screen: bool = True) -> None:
        """It has ended so, and the terminal is as it was."""
        screen = self.tmux.wait_for("ENDED")
        assert f"status={status}\n" in screen, screen
        if second_screen:
            assert "BEFORE" in screen, "what stood there before is back"
            assert "Hosts 2" not in screen, screen
        assert self.tmux.tell("alternate_on") == "0"
        assert self.tmux.tell("cursor_flag") == "1"
        assert (self.tmux.directory / "before").read_text() == (self.tmux.directory / "after").read_text()


@pytest.fixture
def pair() -> Iterator[SimAgent]:
    """Two hosts; alpha has VMs, of which the first three run."""
    with SimAgent("--host", "vmx:2100000:scaling:name=alpha:undecided_ms=300",
                  "--host", "svm:3500000:scaling:name=beta:undecided_ms=300:bound_ns=35000") as agent:
        for i in range(VMS):
            agent.request("create_vm", host=0, vm=f"vm-{10 + i}", vcpus=2)
        for i in range(3):
            agent.request("resume", host=0, vm=f"vm-{10 + i}")
            look_at_vm(agent.addresses[0], f"vm-{10 + i}")
        yield agent


@contextlib.contextmanager
def top(pair: SimAgent, width: int = 80, height: int = 24, before: str = "", **environment: str) -> Iterator[Top]:
    with Tmux(width, height, **environment) as tmux:
        yield Top(tmux, *pair.addresses, before=before)


def selected(tmux: Tmux) -> str:
    """The row in reverse: below the first line, which always is."""
    rows = [line for line in tmux.screen(looks=True).splitlines()[1:] if re.search(r"\x1b\[(\d+;)*7[;m]", line)]
    assert len(rows) <= 1, rows
    return re.sub(r"\x1b\[[0-9;]*m", "", rows[0]) if rows else ""


def test_shows_hosts_handoffs_and_vms_and_follows_keys_and_sizes(pair: SimAgent) -> None:
    with top(pair) as shown:
        tmux = shown.tmux
        screen = tmux.wait_for("vm-10", "2 hosts, 30 VMs, 3 running")
        lines = screen.splitlines()
        assert len(lines) == 24 and all(len(line) <= 80 for line in lines)
        assert re.search(r"alpha +synchronised +\+-20\.\d us", screen), screen
        assert re.search(r"beta +synchronised +\+-35\.\d us", screen), screen
        assert re.search(r"vm-10 +alpha +running +yes +2 +- +- +in-process", screen), screen
        assert "Handoffs 0  none in progress" in screen
        assert " ok " in lines[0]
        assert tmux.tell("alternate_on") == "1" and tmux.tell("cursor_flag") == "0"

        tmux.press("Down", "Down")
        tmux.wait("vm-12 selected", lambda _: "vm-12" in selected(tmux))
        tmux.press("Enter")
        tmux.wait_for("VM vm-12 on alpha", "last handoff")
        tmux.press("Escape")
        tmux.wait_for("▶ VMs 30")

        tmux.type("/vm-2")
        tmux.wait_for("/vm-2   Enter keep")
        assert tmux.tell("cursor_flag") == "1"
        tmux.press("Enter")
        tmux.wait_for("VMs 10 of 30", "vm-29")
        tmux.wait_gone("vm-10")
        tmux.press("Escape")
        tmux.wait_for("vm-10")

        tmux.press("Tab")
        tmux.wait_for("▶ Hosts 2")
        tmux.type("s")
        tmux.wait_for("HOST▲")
        tmux.type("r")
        tmux.wait("beta above alpha", lambda text: 0 < text.find("beta") < text.find("alpha"))

        tmux.resize(120, 40)
        tmux.wait_for("vm-36", "2,100,000 kHz", "EPOCH")
        tmux.resize(40, 10)
        tmux.wait_gone("VMs 30 ─")
        tmux.press("Tab", "Tab")
        screen = tmux.wait_for("▶ VMs 30", "q quit")
        assert all(len(line) <= 40 for line in screen.splitlines())
        tmux.resize(80, 24)
        tmux.wait_for("▶ VMs 30", "beta", "p pause")

        tmux.type("?")
        tmux.wait_for("▶ Keys", "Shift-Tab")
        tmux.type("q")
        tmux.wait_gone("▶ Keys")
        tmux.type("q")
        shown.wait_end(0)


def test_an_agent_that_dies_is_shown_so_until_it_is_back() -> None:
    with tempfile.TemporaryDirectory(prefix="tsc-top.", dir="/tmp") as name, Tmux(100, 24) as tmux, \
            contextlib.ExitStack() as others:
        first = start_host(Path(name), "gamma")
        others.callback(first.kill)
        second = start_host(Path(name), "delta")
        others.callback(second.kill)
        port = port_of(first)
        first.request("create_vm", vm="vm-1", vcpus=1)
        shown = Top(tmux, first.addresses[0], second.addresses[0])
        tmux.wait_for("gamma", "delta", "vm-1")
        first.kill()
        screen = tmux.wait_for("1 agent away", "AWAY", " ago")
        assert re.search(r"! gamma +AWAY", screen), screen
        assert "vm-1" in screen, "what it said last stays"
        tmux.press("Tab", "Enter")
        tmux.wait_for("Host gamma", "does not answer", "last seen")
        tmux.press("Escape")
        again = start_host(Path(name), "gamma", port)
        others.callback(again.kill)
        tmux.wait_gone("AWAY", "1 agent away")
        tmux.wait_for(" ok ", "VMs 0")
        tmux.type("q")
        shown.wait_end(0)


def test_handoffs_are_seen_and_an_undecided_one_comes_first(pair: SimAgent) -> None:
    source, destination = pair.addresses
    for vm in ("vm-moved", "vm-stuck"):
        pair.request("create_vm", host=0, vm=vm, vcpus=2)
        pair.request("create_vm", host=1, vm=vm, vcpus=2, awaits_handoff=True)
    with top(pair, 110, 24) as shown:
        tmux = shown.tmux
        tmux.wait_for("beta")
        begin_handoff("h-stuck", "vm-stuck", source, destination)
        tmux.wait_for("CAPTURED")
        run_tscctl("handoff", "vm-moved", "--from", source, "--to", destination, "--id", "h-moved")
        screen = tmux.wait_for("RELEASED", "ACTIVE", "UNDECIDED: resume/abort", "1 handoff undecided")
        assert re.search(r"! vm-stuck +alpha +source +CAPTURED +beta", screen), screen
        assert screen.index("h-stuck" if "h-stuck" in screen else "vm-stuck") < screen.index("vm-moved"), screen
        tmux.type("2")
        tmux.press("Enter")
        tmux.wait_for(f"tscctl abort h-stuck --from {source} --to {destination}")
        run_tscctl("abort", "h-stuck", "--from", source, "--to", destination)
        tmux.wait_for("ABORTED")
        tmux.press("Escape")
        tmux.wait_gone("UNDECIDED")
        tmux.type("q")
        shown.wait_end(0)


def test_paused_nothing_moves(pair: SimAgent) -> None:
    with top(pair) as shown:
        tmux = shown.tmux
        tmux.wait_for("30 VMs", "UTC")
        tmux.type("p")
        tmux.wait_for("PAUSED", "p go on")
        pair.request("create_vm", host=1, vm="vm-late", vcpus=1)
        run_tscctl("--agent", pair.addresses[1], "vms")
        before = tmux.screen()
        tmux.press("C-l")
        assert "30 VMs" in before and "31 VMs" not in tmux.screen()
        tmux.type("p")
        tmux.wait_for("31 VMs")
        tmux.press("C-c")
        shown.wait_end(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(pair: SimAgent, number: signal.Signals) -> None:
    with top(pair) as shown:
        shown.tmux.wait_for("vm-10")
        os.kill(shown.pid(), number)
        shown.wait_end(128 + number)


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(pair: SimAgent) -> None:
    with Tmux(80, 24) as tmux:
        tmux.type(f"clear; {tscctl()} top --agent {pair.addresses[0]}\n")
        tmux.wait_for("vm-10", "Hosts 1")
        tmux.press("C-z")
        tmux.wait_gone("Hosts 1")
        assert tmux.tell("alternate_on") == "0" and tmux.tell("cursor_flag") == "1"
        tmux.resize(100, 30)
        tmux.type("fg\n")
        tmux.wait_for("vm-10", "Hosts 1", "vm-20")
        tmux.type("q")
        tmux.wait_gone("Hosts 1")
        assert tmux.tell("alternate_on") == "0"


def colours(screen: str) -> list[str]:
    return re.findall(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])(?:;\d+)*m", screen)


def test_colours_are_there_unless_nobody_wants_or_shows_them(pair: SimAgent) -> None:
    def looks(before: str, second_screen: bool = True) -> str:
        with top(pair, before=before) as shown:
            shown.tmux.wait_for("synchronised", "vm-10")
            screen = shown.tmux.screen(looks=True)
            shown.tmux.type("q")
            shown.wait_end(0, second_screen=second_screen)
        return screen

    assert colours(looks(""))
    for before, second_screen in (("env NO_COLOR=1", True), ("env TERM=vt220", False)):
        screen = looks(before, second_screen)
        assert not colours(screen), before
        assert re.search(r"\x1b\[(\d+;)*7[;m]", screen), "the first line is in reverse all the same"


def test_without_utf8_only_ascii_is_drawn(pair: SimAgent) -> None:
    with top(pair, before="env LC_ALL=C") as shown:
        screen = shown.tmux.wait_for("> VMs 30", "vm-10")
        assert screen.isascii(), screen
        shown.tmux.type("q")
        shown.wait_end(0)


def test_without_a_terminal_it_says_what_to_use_instead(pair: SimAgent) -> None:
    done = subprocess.run([tscctl(), "top", "--agent", pair.addresses[0]], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "draws on a terminal" in done.stderr and "tscctl watch" in done.stderr and "tscctl vms" in done.stderr
    with Tmux(100, 24) as tmux:
        for term, why in (("dumb", "TERM=dumb names no terminal"), ("none-such", "TERM=none-such names no terminal"),
                          ("", "TERM is not set")):
            tmux.type(f"clear; TERM={term} {tscctl()} top --agent {pair.addresses[0]}; echo status=$?\n")
            assert "status=2" in tmux.wait_for(why, "status=")
            tmux.type("clear\n")
            tmux.wait_gone("status=")


def test_a_frozen_agent_never_freezes_the_screen() -> None:
    with tempfile.TemporaryDirectory(prefix="tsc-top.", dir="/tmp") as name, Tmux(80, 24) as tmux:
        agent = start_host(Path(name), "frozen")
        try:
            agent.request("create_vm", vm="vm-1", vcpus=1)
            shown = Top(tmux, agent.addresses[0])
            tmux.wait_for("vm-1")
            os.kill(agent.ready["pid"], signal.SIGSTOP)
            tmux.type("?")
            tmux.wait_for("▶ Keys")
            tmux.press("Escape")
            tmux.wait_for("1 agent away")
            tmux.type("q")
            shown.wait_end(0)
        finally:
            os.kill(agent.ready["pid"], signal.SIGCONT)
            agent.kill()
