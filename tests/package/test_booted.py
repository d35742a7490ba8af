"""The packages' life in a Debian 12 that boots with systemd, on a node with real KVM: installed, started, killed, hung,
upgraded, removed, purged. The tests are one story in this order."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest

from ..attach.node_qemu import NodeQemu
from ..cluster import Cluster, CommandResult, Node
from ..e2e.reflection_client import ReflectionClient
from ..observability import runbooks
from ..observability.prometheus import Prometheus, wait_for
from ..programs import binary
from ..programs.certificates import Authority, TlsFiles
from ..programs.lab_tls import channel_credentials
from ..witness import start_witness
from . import debian_root, packages
from .operator_tools import agents_certificate, name_hosts, operators_certificate, stock_qemu, time_server

pytestmark = [
    pytest.mark.slow,
    # The first run makes the file system with debootstrap.
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap and a file system with owners need root"),
]

AGENT = "unix:/run/tsc-handoff/agent.sock"
CONFIG = "/etc/tsc-handoff/agent.yaml"
# What changes in a running Debian whoever installs what.
_NOT_OURS = ("/proc", "/sys", "/dev", "/run", "/tmp", "/exchange", "/var/log", "/var/cache", "/var/lib/dpkg",
             "/var/lib/apt", "/var/lib/systemd", "/etc/ld.so.cache", "/etc/mtab", "/var/tmp", "/root")  # fmt: skip
# Large, read over 9p, and of no interest to us: thousands of files that would be looked up twice.
_LARGE = ("/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/locale", "/usr/share/zoneinfo", "/usr/share/perl",
          "/usr/share/perl5", "/usr/lib/x86_64-linux-gnu/gconv", "/usr/lib/udev")  # fmt: skip
# Backups that the tools for users and units keep.
_BACKUPS = {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-"}


@dataclass
class Host:
    node: Node
    versions: dict[str, dict[str, str]]  # "old" and "new" -> package -> path in the node
    before: set[str]  # the files of the host before anything was installed
    exchange: pathlib.Path  # which the node sees as /exchange

    def show(self, name: str) -> str:
        return self.node.run(["systemctl", "show", "--value", "-p", name, "tsc-agent"], timeout=60).stdout.strip()

    def tscctl(self, *arguments: str) -> dict:
        return json.loads(self.node.run(["tscctl", "--timeout", "20s", "-o", "json", *arguments], timeout=60).stdout)

    def systemctl(self, *arguments: str) -> None:
        self.node.run(["systemctl", *arguments], timeout=90)

    def apt(self, *arguments: str) -> str:
        return self.node.run(["apt", "-y", *arguments], timeout=240, env={"DEBIAN_FRONTEND": "noninteractive"}).stdout

    def agent_status(self) -> str:
        """The kernel's view of the agent's process."""
        return self.node.read_file(f"/proc/{self.show('MainPID')}/status").decode()

    def files(self) -> set[str]:
        skip = [word for path in (*_NOT_OURS, *_LARGE) for word in ("-path", path, "-prune", "-o")]
        return set(self.node.run(["find", "/", *skip, "-print"], timeout=120).stdout.splitlines()) - _BACKUPS

    def journal(self) -> str:
        return self.node.run(["journalctl", "-u", "tsc-agent", "--no-pager", "-n", "40"], check=False,
                             timeout=60).stdout


def _wait(condition: Callable[[], bool], what: str, timeout: float, host: Host) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}\n{host.journal()}"
        pause.wait(0.5)


@pytest.fixture(scope="module")
def host(made: dict[str, pathlib.Path], dependencies: list[str],
         tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    version = packages.field(made["tsc-handoff-agent"], "Version")
    newer = packages.make_packages(tmp_path_factory.mktemp("newer"), f"{version}+1")
    root = debian_root.host_root(dependencies)
    with Cluster(1, root=root, init="/lib/systemd/systemd", boot_timeout=240) as cluster:
        node = cluster.nodes[0]
        versions: dict[str, dict[str, str]] = {}
        for age, files in (("old", made), ("new", newer)):
            versions[age] = {name: f"/exchange/{path.name}" for name, path in files.items()}
            for path in files.values():
                shutil.copy(path, cluster.exchange)
        shutil.copy(binary("tests/witness/witness"), cluster.exchange)
        # A VMM as it usually is: no right but to belong to the group kvm.
        start = cluster.exchange / "vmm"
        start.write_text("#!/bin/sh\n[ \"$1\" = ctl ] && exec /exchange/witness \"$@\"\n"
                         "exec setpriv --regid kvm --clear-groups --bounding-set=-all --inh-caps=-all "
                         "/exchange/witness \"$@\"\n")
        start.chmod(0o755)
        node.vouch_for_clock()
        found = Host(node, versions, set(), cluster.exchange)
        found.before = found.files()
        yield found


def test_an_installed_agent_is_started_and_says_that_it_serves(host: Host) -> None:
    old = host.versions["old"]
    host.apt("install", old["tsc-handoff-agent"], old["tsc-handoff-tools"], old["libtsc-vmm0"])
    _wait(lambda: host.show("ActiveState") == "active", "active", 60, host)
    assert host.show("Type") == "notify"
    assert host.show("StatusText") == f"serving {AGENT}"
    assert host.show("UnitFileState") == "enabled"
    assert host.show("WatchdogUSec") == "30s"
    facts = host.tscctl("host")["host"]
    assert facts["kvm_available"] and facts["tsc_stable"], facts
    owner = host.node.run(["stat", "-c", "%U:%G %a", "/run/tsc-handoff/agent.sock", "/run/tsc-handoff/vmm.sock",
                           "/var/lib/tsc-handoff"]).stdout.splitlines()  # fmt: skip
    assert owner == ["tsc-agent:tsc-agent 660", "tsc-agent:kvm 660", "tsc-agent:tsc-agent 700"]
    status = host.agent_status()
    assert "CapEff:\t0000000000000000" in status and "CapBnd:\t0000000000000000" in status


def test_the_agents_group_may_call_it_and_kvm_may_not(host: Host) -> None:
    def call(group: str) -> int:
        return host.node.run(["setpriv", "--reuid", "nobody", "--regid", group, "--clear-groups", "tscctl", "vms"],
                             check=False, timeout=60).returncode

    assert call("tsc-agent") == 0
    assert call("kvm") == 3  # not reached


def test_a_handoff_between_two_vms_of_the_host_works(host: Host) -> None:
    source = start_witness(host.node, "source", vcpus=2, agent_socket="/run/tsc-handoff/vmm.sock",
                           binary="/exchange/vmm", arguments=["--phase-spread", "50000"], timeout=90)
    target = start_witness(host.node, "target", vcpus=2, agent_socket="/run/tsc-handoff/vmm.sock",
                           binary="/exchange/vmm", arguments=["--incoming", "--awaits-handoff"], timeout=90)
    assert source.control.request("pause")["ok"]
    assert source.control.request("save", path="/run/source.state")["ok"]
    assert target.control.request("load", path="/run/source.state")["ok"]
    done = host.node.run(["tscctl", "--timeout", "20s", "-o", "json", "handoff", "source", "--from", AGENT,
                          "--to", AGENT, "--to-vm", "target", "--id", "packaged", "--max-error", "1s"],
                         timeout=90, check=False)
    assert done.returncode == 0, (done, host.journal())
    assert target.control.request("resume")["ok"]
    assert target.control.request("pause")["ok"]
    verdict = target.control.request("verdict")
    assert (verdict["backward_steps"], verdict["warps"]) == (0, 0)


# As the deploy/README has it for a fleet, where each host's agent has an address and is scraped.
FLEET = f"""\
listen: [{AGENT}, 10.0.2.15:50051]
tls-ca: /etc/tsc-handoff/ca.crt
tls-cert: /etc/tsc-handoff/tls.crt
tls-key: /etc/tsc-handoff/tls.key
policy: /etc/tsc-handoff/policy.yaml
metrics: 10.0.2.15:9464
insecure-metrics: true
clock: chrony
"""
# How long after the fault: silence of 10 s or 30 s, a scrape, an evaluation, the rule's own `for`, and what a busy machine
# adds under emulation.
UNTRUSTED_WITHIN_S = 75.0
UNDECIDED_WITHIN_S = 100.0


class Operator:
    """Types what the runbooks say, in the node."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def type(self, line: str, **words: str) -> CommandResult:
        for placeholder, word in words.items():
            line = re.sub(rf"\b{placeholder}\b", word, line)
        done = self._host.node.run(["sh", "-c", line], check=False, timeout=90)
        assert done.returncode not in (2, 126, 127), (line, done)
        return done

    def diagnose(self, alert: str) -> str:
        """All that the runbook's diagnosis prints."""
        lines = runbooks.typed(alert, "Diagnosis")
        assert lines
        return "".join(done.stdout + done.stderr for done in map(self.type, lines))

    def mend(self, alert: str, beginning: str, **words: str) -> None:
        line = next(line for line in runbooks.typed(alert, "Remedy") if line.startswith(beginning))
        done = self.type(line, **words)
        assert done.returncode == 0, (line, done)


def test_alerts_come_in_time_and_what_their_runbooks_say_mends_it(host: Host, tmp_path: pathlib.Path) -> None:
    operator = Operator(host)
    name_hosts(host.node)
    host.node.vouch_for_clock(None)  # from here on that is its chrony's matter
    authority = Authority(tmp_path / "authority")
    me = operators_certificate(host.node, authority)
    with time_server(host.node), agents_certificate(host.node, authority), _configured(host, FLEET):
        _wait(lambda: host.tscctl("host")["host"]["clock"].get("trusted", False), "the clock is trusted", 90, host)
        targets = {"host1": f"127.0.0.1:{host.node.forward(9464)}"}
        # As in deploy/prometheus/prometheus.yml.
        with Prometheus(targets, interval="10s") as prometheus:
            wait_for(lambda: prometheus.query("tsc_agent_clock_trusted == 1"), "it is scraped", 60)
            assert not {"TscClockUntrusted", "TscHandoffUndecided", "TscAgentDown"} & set(prometheus.firing())
            _check_clock_alert(host, operator, prometheus)
            _check_handoff_alert(host, operator, prometheus, me)
    host.node.run(["sh", "-c", "systemctl stop chrony; rm -f /var/lib/chrony/chrony.drift"], timeout=90)
    host.node.vouch_for_clock()


def _check_clock_alert(host: Host, operator: Operator, prometheus: Prometheus) -> None:
    host.systemctl("stop", "chrony")
    stopped_at = time.monotonic()
    wait_for(lambda: "TscClockUntrusted" in prometheus.firing(), "the alert", UNTRUSTED_WITHIN_S)
    print(f"TscClockUntrusted after {time.monotonic() - stopped_at:.0f} s")
    said = operator.diagnose("TscClockUntrusted")
    assert re.search(r"clock trusted +no", said), said
    assert "inactive (dead)" in said and "Stopped chrony" in said, said
    operator.mend("TscClockUntrusted", "systemctl start chrony")
    wait_for(lambda: "TscClockUntrusted" not in prometheus.firing(), "the alert is over", 90)


def _check_handoff_alert(host: Host, operator: Operator, prometheus: Prometheus, me: TlsFiles) -> None:
    address = f"127.0.0.1:{host.node.forward(50051)}"
    with ReflectionClient(address, grpc.secure_channel(address, channel_credentials(me))) as agent:
        def capture(handoff_id: str) -> None:
            """What an orchestrator does that dies after it. "target" is where the VM is since the handoff before."""
            agent.call("tschandoff.v1.TscAgent", "GetTscState", {
                "vm_id": "target", "handoff_id": handoff_id, "destination_vm_id": "source",
                "destination_agent_id": host.tscctl("host")["host"]["agent_id"]})

        capture("left-1")
        left_at = time.monotonic()
        wait_for(lambda: "TscHandoffUndecided" in prometheus.firing(), "the alert", UNDECIDED_WITHIN_S)
        print(f"TscHandoffUndecided after {time.monotonic() - left_at:.0f} s")
        said = operator.diagnose("TscHandoffUndecided")
        assert re.search(r"^left-1 +source +CAPTURED +target .*stuck", said, re.MULTILINE), said
        operator.mend("TscHandoffUndecided", "tscctl abort ID", ID="left-1")
        wait_for(lambda: "TscHandoffUndecided" not in prometheus.firing(), "the alert is over", 60)
        # The other way out.
        capture("left-2")
        operator.mend("TscHandoffUndecided", "tscctl resume ID", ID="left-2")
        vms = {vm["vm_id"]: vm.get("may_run", False) for vm in host.tscctl("vms")["vms"]}
        assert vms == {"source": True, "target": False}


def test_a_killed_agent_is_started_again_and_knows_its_handoffs(host: Host) -> None:
    before = host.show("MainPID")
    handoffs = host.tscctl("handoffs")
    host.node.run(["kill", "-9", before])
    _wait(lambda: host.show("ActiveState") == "active" and host.show("MainPID") != before, "a new agent", 60, host)
    assert host.show("NRestarts") == "1"
    assert _ids(host.tscctl("handoffs")) == _ids(handoffs) != []
    vms = host.tscctl("vms")["vms"]  # they have come back by themselves
    _wait(lambda: {vm["vm_id"] for vm in host.tscctl("vms")["vms"]} == {"source", "target"}, f"VMs; {vms}", 30, host)


def test_the_watchdog_restarts_an_agent_that_hangs(host: Host) -> None:
    # The 30 s of the unit would do; the shorter time is this test's only.
    host.node.run(["mkdir", "-p", "/run/systemd/system/tsc-agent.service.d"])
    host.node.write_file("/run/systemd/system/tsc-agent.service.d/test.conf",
                         "[Service]\nWatchdogSec=9s\nTimeoutAbortSec=3s\n")
    host.systemctl("daemon-reload")
    host.systemctl("restart", "tsc-agent")
    before = host.show("MainPID")
    restarts = int(host.show("NRestarts"))
    # Longer than the watchdog's time: an agent that answers is left alone.
    _wait(lambda: _seconds_since_start(host) > 15, "time to pass", 60, host)
    assert (host.show("MainPID"), int(host.show("NRestarts"))) == (before, restarts)
    host.node.run(["kill", "-STOP", before])
    _wait(lambda: host.show("ActiveState") == "active" and host.show("MainPID") not in (before, "0"),
          "a new agent", 90, host)
    assert int(host.show("NRestarts")) == restarts + 1
    assert "Watchdog timeout" in host.journal()
    assert host.tscctl("vms")["vms"] is not None
    host.node.run(["rm", "-r", "/run/systemd/system/tsc-agent.service.d"])
    host.systemctl("daemon-reload")


def _seconds_since_start(host: Host) -> float:
    started = int(host.show("ActiveEnterTimestampMonotonic")) / 1e6
    return float(host.node.read_file("/proc/uptime").split()[0]) - started


def _ids(handoffs: dict) -> list[str]:
    return sorted(handoff["handoff_id"] for handoff in handoffs["handoffs"])


@contextlib.contextmanager
def _configured(host: Host, settings: str) -> Iterator[None]:
    """With these settings, and again with those of before."""
    before = host.node.read_file(CONFIG)
    host.node.write_file(CONFIG, settings)
    host.systemctl("restart", "tsc-agent")
    try:
        yield
    finally:
        host.node.write_file(CONFIG, before)
        host.systemctl("restart", "tsc-agent")


def test_with_the_drop_in_for_attaching_it_reaches_a_stock_qemu(host: Host) -> None:
    directory = "/etc/systemd/system/tsc-agent.service.d"
    host.node.run(["mkdir", "-p", directory])
    host.node.run(["cp", "/usr/share/doc/tsc-handoff-agent/examples/attach.conf", directory])
    host.systemctl("daemon-reload")

    def found() -> dict:
        return next((vm for vm in host.tscctl("vms")["vms"] if vm["vm_id"] == "stock"), {})

    with (_configured(host, "attach: on\n"), stock_qemu(host.node, host.exchange) as options,
          NodeQemu(host.node, name="stock", vcpus=2, options=options) as qemu):
        # CAP_SYS_PTRACE is bit 19, CAP_DAC_OVERRIDE bit 1.
        assert "CapEff:\t0000000000080002" in host.agent_status()
        qemu.qmp("stop")
        _wait(lambda: found().get("port") == "PORT_ATTACHED" and found()["vcpu_count"] == 2, f"the QEMU; {found()}", 60,
              host)
        before = qemu.offsets()
        host.tscctl("get", "stock", "--out", "/run/stock.tsc")
        host.tscctl("set", "stock", "--in", "/run/stock.tsc", "--mode", "exact")
        after = qemu.offsets()
        assert len(set(after)) == 1 and after != before
        qemu.qmp("cont")
        qemu.check_that_it_answers("running")
        assert qemu.offsets() == after
    host.node.run(["rm", "-r", directory, "/run/stock.tsc"])
    host.systemctl("daemon-reload")
    host.systemctl("restart", "tsc-agent")
    assert "CapEff:\t0000000000000000" in host.agent_status()


def test_an_upgrade_keeps_the_journal_the_identity_and_a_changed_conffile(host: Host) -> None:
    mine = "# mine\nmax-vms: 7\n"
    host.node.write_file(CONFIG, mine)
    identity, handoffs = _agent_id(host), _ids(host.tscctl("handoffs"))
    before = host.show("MainPID")
    new = host.versions["new"]
    host.apt("install", new["tsc-handoff-agent"], new["tsc-handoff-tools"], new["libtsc-vmm0"])
    _wait(lambda: host.show("ActiveState") == "active" and host.show("MainPID") != before, "a new agent", 60, host)
    version = host.node.run(["dpkg-query", "-W", "-f", "${Version}", "tsc-handoff-agent"]).stdout
    assert version.endswith("+1")
    assert host.node.read_file(CONFIG).decode() == mine
    assert _agent_id(host) == identity
    assert _ids(host.tscctl("handoffs")) == handoffs


def test_a_reload_takes_over_what_may_change_and_a_mistake_changes_nothing(host: Host) -> None:
    pid = host.show("MainPID")
    for text, said in (("max-error: 2ms\nmax-vms: 8\n", "max-vms"), ("max-error: soon\n", "agent.yaml:1")):
        host.node.write_file(CONFIG, text)
        host.systemctl("reload", "tsc-agent")
        _wait(lambda said=said: said in host.journal(), f"'{said}' in the log", 20, host)
    assert host.show("MainPID") == pid
    assert host.show("ActiveState") == "active"
    host.node.write_file(CONFIG, "max-vms: 7\n")


def _agent_id(host: Host) -> str:
    return str(host.tscctl("host")["host"]["agent_id"])


def test_a_removal_stops_the_agent_and_keeps_what_the_operator_may_want(host: Host) -> None:
    host.apt("remove", "tsc-handoff-agent")
    assert host.show("ActiveState") == "inactive"
    assert host.node.run(["pgrep", "tsc-agent"], check=False).returncode == 1
    kept = host.node.run(["ls", CONFIG, "/var/lib/tsc-handoff"]).stdout
    assert "journal.db" in kept


def test_a_purge_leaves_nothing(host: Host) -> None:
    host.apt("purge", "tsc-handoff-agent", "tsc-handoff-tools", "libtsc-vmm0")
    assert host.files() - host.before == set()
    assert host.node.run(["getent", "passwd", "tsc-agent"], check=False).returncode == 2
    assert host.node.run(["getent", "group", "tsc-agent"], check=False).returncode == 2
    assert host.node.run(["test", "-e", "/run/tsc-handoff"], check=False).returncode == 1
