"""The nodes themselves: real KVM inside, the ways in and out, ground truth, and nothing left behind."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from . import EXCHANGE, Chronyd, Cluster, Node, NodeError, qemu

_TESTS = pathlib.Path(__file__).resolve().parent.parent
_KVM_API_VERSION = "import fcntl, os; print(fcntl.ioctl(os.open('/dev/kvm', os.O_RDWR), 0xAE00))"


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        pause.wait(0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2) as booted:
        yield booted


@pytest.fixture(params=[0, 1], ids=["node1", "node2"])
def node(cluster: Cluster, request: pytest.FixtureRequest) -> Node:
    return cluster.nodes[request.param]


def test_kvm_is_real(node: Node) -> None:
    assert node.run(["/usr/bin/python3", "-c", _KVM_API_VERSION]).stdout.strip() == "12"
    assert node.run(["test", "-d", "/sys/module/kvm_amd"], check=False).returncode == 0
    assert node.run(["test", "-d", "/sys/kernel/debug/kvm"], check=False).returncode == 0


def test_clocksource_is_tsc_at_the_machines_rate(cluster: Cluster) -> None:
    path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert [node.read_file(path) for node in cluster.nodes] == [b"tsc\n", b"tsc\n"]
    assert cluster.nodes[0].tsc_khz() == cluster.nodes[1].tsc_khz() > 0


def test_run_reports_status_output_and_input(node: Node) -> None:
    done = node.run(["sh", "-c", "cat; echo $WORD >&2; exit 3"], check=False, stdin=b"in",
                    env={"WORD": "err"})
    assert done == (3, "in", "err\n")
    with pytest.raises(NodeError, match=r"failed \(3\)"):
        node.run(["sh", "-c", "exit 3"])
    with pytest.raises(NodeError, match="no-such-program"):
        node.run(["no-such-program"])


def test_long_run_is_cut_off_and_blocks_nobody(node: Node) -> None:
    failures: list[NodeError] = []

    def long_run() -> None:
        try:
            node.run(["sleep", "1000"], timeout=2)
        except NodeError as error:
            failures.append(error)

    thread = threading.Thread(target=long_run)
    thread.start()
    assert node.run(["echo", "meanwhile"]).stdout == "meanwhile\n"
    thread.join(60)
    assert len(failures) == 1 and "took more than 2 s" in str(failures[0])


def test_process_is_started_logged_and_ended(node: Node) -> None:
    process = node.start(["sh", "-c", "echo up; exec sleep 1000"], name="sleeper")
    wait_until(lambda: "up" in process.log(), "the process's log")
    assert process.poll() is None
    assert node.run(["cat", f"/proc/{process.pid}/comm"]).stdout == "sleep\n"
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    assert process.poll() == -signal.SIGTERM


def test_exchange_directory_both_ways(cluster: Cluster, node: Node) -> None:
    file = cluster.exchange / "greeting"
    for text in ("first", "second, and longer"):  # the second one must not be hidden by a cache
        file.write_text(text)
        assert node.read_file(EXCHANGE / "greeting") == text.encode()
    node.write_file(EXCHANGE / "greeting", "from the node")
    assert file.read_text() == "from the node"


def test_node_sees_the_machines_files_but_cannot_change_them(node: Node,
                                                             tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_text("the machine's")
    assert node.read_file(file) == b"the machine's"
    node.write_file(file, b"the node's")
    assert node.read_file(file) == b"the node's"
    assert file.read_text() == "the machine's"


def test_socket_in_the_node_is_asked(node: Node) -> None:
    server = node.start(["/usr/bin/python3", "-u", "-c", (
        "import socket\n"
        "server = socket.create_server('/run/echo.sock', family=socket.AF_UNIX)\n"
        "print('listening')\n"
        "with server.accept()[0] as connection, connection.makefile('rw') as lines:\n"
        "    lines.write('heard ' + lines.readline())\n")], name="echo")
    wait_until(lambda: "listening" in server.log(), "the server")
    assert node.ask_socket("/run/echo.sock", "something") == "heard something\n"
    assert server.wait() == 0
    with pytest.raises(NodeError, match="ConnectionRefused"):
        node.ask_socket("/run/echo.sock", "too late")


def test_what_a_socket_in_the_node_says_besides_the_answer_is_passed_over(node: Node) -> None:
    server = node.start(["/usr/bin/python3", "-u", "-c", (
        "import socket\n"
        "server = socket.create_server('/run/chatty.sock', family=socket.AF_UNIX)\n"
        "print('listening')\n"
        "for answer in ('rest of an old one\\n>1 old\\n>2 new\\n', 'never\\n'):\n"
        "    with server.accept()[0] as connection, connection.makefile('rw') as lines:\n"
        "        lines.readline()\n"
        "        lines.write(answer)\n")], name="chatty")
    wait_until(lambda: "listening" in server.log(), "the server")
    assert node.ask_socket("/run/chatty.sock", "2 something", answers=">2 ") == ">2 new\n"
    assert node.ask_socket("/run/chatty.sock", "3 something", answers=">3 ") == ""
    assert server.wait() == 0


def test_forwarded_port_reaches_a_server_in_the_node(node: Node) -> None:
    server = node.start(["/usr/bin/python3", "-u", "-c", (
        "import socket\n"
        "server = socket.create_server(('10.0.2.15', 7777))\n"
        "print('listening')\n"
        "connection, _ = server.accept()\n"
        "connection.sendall(connection.recv(100).upper())\n")], name="server")  # fmt: skip
    wait_until(lambda: "listening" in server.log(), "the server's log")
    with socket.create_connection(("127.0.0.1", node.forward(7777)), timeout=20) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"HELLO"
    assert server.wait() == 0
    assert node.forward(7777) == node.forward(7777) != node.forward(7778)


def test_nodes_reach_each_other(cluster: Cluster) -> None:
    first, second = cluster.nodes
    first.run(["busybox", "ping", "-c", "1", "-W", "10", "10.77.0.2"])
    second.run(["busybox", "ping", "-c", "1", "-W", "10", "10.77.0.1"])


def test_tsc_distance_is_the_same_from_both_sides(cluster: Cluster) -> None:
    forth = cluster.tsc_distance_once()
    back = cluster.tsc_distance_once(reverse=True)
    assert 0 < forth.error_ticks < 260_000  # 100 us: only a machine that is swamped is worse
    assert abs(forth.distance_ticks - back.distance_ticks) <= forth.error_ticks + back.error_ticks
    common = cluster.tsc_distance()
    assert abs(common.distance_ticks - forth.distance_ticks) <= (common.error_ticks
                                                                 + forth.error_ticks)


@pytest.fixture(scope="module", name="daemons")
def _daemons(cluster: Cluster) -> list[Chronyd]:
    return cluster.start_chronyd()


def test_chronyd_gives_a_bound_that_holds(cluster: Cluster, daemons: list[Chronyd]) -> None:
    cluster.wait_clock(bound_ns=2_000_000, timeout=60)
    before = cluster.clock_bound()
    true = cluster.true_clock_offset()
    after = cluster.clock_bound()
    assert before is not None and after is not None
    assert abs(true.offset_ns) <= max(before.bound_ns, after.bound_ns) + true.error_ns
    for node in cluster.nodes:
        wait_until(lambda: node.adjtimex()["synchronised"], f"{node.name}'s kernel clock in step")
    assert [daemon.poll() for daemon in daemons] == [None, None]


@pytest.mark.parametrize("seconds", [0.3, -0.3, 3600.0])
def test_step_moves_the_clock_and_leaves_the_claim(cluster: Cluster, daemons: list[Chronyd], seconds: float) -> None:
    cluster.wait_clock(bound_ns=2_000_000, timeout=60)
    wait_until(lambda: cluster.nodes[1].adjtimex()["synchronised"], "node2's kernel clock in step")
    daemons[1].freeze()
    try:
        before = cluster.nodes[1].adjtimex()
        cluster.nodes[1].step_clock(seconds)
        after, true = cluster.nodes[1].adjtimex(), cluster.true_clock_offset()
        cluster.nodes[1].step_clock(-seconds)
    finally:
        daemons[1].thaw()
    assert after["synchronised"] and after["esterror_us"] == before["esterror_us"]
    assert 0 <= after["maxerror_us"] - before["maxerror_us"] <= 5_000  # it grows by 500 us every second
    assert abs(true.offset_ns - seconds * 1e9) < 20_000_000  # it was near, and drifts by 500 ppm at most
    cluster.wait_clock(bound_ns=2_000_000, timeout=60)


def test_clock_is_vouched_for_until_that_ends(cluster: Cluster, daemons: list[Chronyd]) -> None:
    node = cluster.nodes[1]
    daemons[1].freeze()
    try:
        node.vouch_for_clock(3)
        assert node.adjtimex()["esterror_us"] == 3
        node.vouch_for_clock(None)
        wait_until(lambda: node.adjtimex()["maxerror_us"] >= 1003, "a claim that nobody renews grows")
    finally:
        daemons[1].thaw()


def test_chronyd_is_killed_and_started_anew(cluster: Cluster, daemons: list[Chronyd]) -> None:
    cluster.wait_clock(bound_ns=2_000_000, timeout=60)
    daemons[1].kill()
    assert daemons[1].poll() == -signal.SIGKILL
    assert cluster.clock_bound() is None
    daemons[1].start()
    cluster.wait_clock(bound_ns=2_000_000, timeout=60)


def test_node_that_dies_is_reported() -> None:
    with Cluster(nodes=1) as cluster:
        (node,) = cluster.nodes
        process = node.start(["sleep", "1000"])
        os.kill(node.qemu_pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not node.alive
        with pytest.raises(NodeError, match="node1 has gone"):
            node.run(["true"])


@pytest.mark.parametrize("parent_pid, status", [(os.getpid(), 7), (1, 1)], ids=["parent", "orphan"])
def test_program_whose_parent_is_gone_already_does_not_start(parent_pid: int, status: int) -> None:
    assert subprocess.run(qemu.mortal(["sh", "-c", "exit 7"], parent_pid)).returncode == status


# Boots far enough that QEMU runs, then says its process id and waits for what the test does to it.
# A script's background jobs inherit that SIGINT is ignored; who presses Ctrl-C does not start it so.
_CHILD = """\
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[1])
from cluster import Cluster, Node
wait_ready = Node.wait_ready
def announce(self, timeout):
    print(self.qemu_pid, flush=True)
    wait_ready(self, timeout)
Node.wait_ready = announce
with Cluster(nodes=1) as cluster:
    cluster.nodes[0].run(["sleep", "1000"], timeout=1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind(number: signal.Signals, tmp_path: pathlib.Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(_TESTS)], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env={**os.environ, "TMPDIR": str(tmp_path)})
    assert child.stdout is not None
    qemu_pid = int(child.stdout.readline())
    assert _runs(qemu_pid)
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode != 0
    wait_until(lambda: not _runs(qemu_pid), f"the end of QEMU ({qemu_pid}); {errors}")
    if number != signal.SIGKILL:  # which leaves no one to remove the console's log
        assert os.listdir(tmp_path) == [], errors


def _runs(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
