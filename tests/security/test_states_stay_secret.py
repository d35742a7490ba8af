"""States and the secrets of handoffs get into no log, whatever the level: what is in the journals after a handoff is looked
for in all that the agents wrote. The agents run with --seccomp kill."""

from __future__ import annotations

import base64
import pathlib
import re
import sqlite3
from collections.abc import Iterable

import pytest

from ..demo.lab import JOURNAL, Lab, patiently, tscctl

# As long as a piece that somebody might recognise. Shorter ones come up by chance.
PIECE_BYTES = 12
# Of less there is much everywhere: zeros, small numbers.
DIFFERENT_BYTES = 7


def pieces(secret: bytes) -> Iterable[bytes]:
    for at in range(len(secret) - PIECE_BYTES + 1):
        piece = secret[at:at + PIECE_BYTES]
        # What is text in there are the names of VM, host and handoff, which belong into a log.
        if len(set(piece)) >= DIFFERENT_BYTES and not all(32 <= byte < 127 for byte in piece):
            yield piece


def spellings(piece: bytes) -> list[bytes]:
    """As a log could have it: as it is, in hexadecimal, escaped as protobuf and abseil do, and in base64, of which the first and
    last characters depend on what stands beside the piece."""
    octal = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in piece)
    hexadecimal = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in piece)
    found = [piece, piece.hex().encode(), octal.encode(), hexadecimal.encode()]
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + piece)
        found.append(whole[4 if shift else 0:len(whole) // 4 * 4 - 4])
    return found


def leaks(log: bytes, secrets: Iterable[bytes]) -> list[bytes]:
    log = log + log.lower()
    return [piece for secret in secrets for piece in pieces(secret) if any(spelling in log for spelling in spellings(piece))]


@pytest.mark.parametrize("written", [
    lambda secret: secret,
    lambda secret: secret.hex().encode(),
    lambda secret: secret.hex().upper().encode(),
    base64.b64encode,
    lambda secret: base64.b64encode(b"x" + secret),
    lambda secret: base64.b64encode(b"xx" + secret),
    lambda secret: repr(secret).encode(),
    lambda secret: b"".join(b"\\%03o" % byte for byte in secret),
])  # fmt: skip
def test_a_secret_in_a_log_would_be_found(written) -> None:  # noqa: ANN001
    secret = bytes(range(128, 160))
    assert leaks(b"[info] captured state=" + written(secret[4:28]) + b" vm=a", [secret])
    assert not leaks(b"[info] captured vm=a handoff=" + bytes(range(60, 90)).hex().encode(), [secret])


def _secrets(directory: pathlib.Path) -> dict[str, list[bytes]]:
    """Every column of handoffs that holds bytes, but for identities, which are no secret."""
    with sqlite3.connect(directory / "journal.db") as journal:
        rows = journal.execute("SELECT release_proof, abort_proof, answer, undo, redo FROM handoffs").fetchall()
    return {name: [row[at] for row in rows if row[at]]
            for at, name in enumerate(("release_proof", "abort_proof", "answer", "undo", "redo"))}


def _copy_journal(node, directory: pathlib.Path) -> pathlib.Path:  # noqa: ANN001
    directory.mkdir()
    for ending in ("", "-wal"):
        if node.run(["test", "-f", JOURNAL + ending], check=False).returncode == 0:
            (directory / f"journal.db{ending}").write_bytes(node.read_file(JOURNAL + ending))
    return directory


def test_nothing_of_a_handoffs_states_and_secrets_is_in_a_log(tmp_path: pathlib.Path) -> None:
    with Lab(agent_arguments=["--max-error", "20ms", "--log-level", "debug"]) as lab:
        lab.wait_clock_trusted(5_000_000)
        source = lab.witness(0, "secret", 3, ["--paused", "--phase-ticks=0,123456789,-987654321"])
        destination = lab.witness(1, "secret", 3, ["--incoming"])
        state = tmp_path / "state"
        assert tscctl("--agent", lab.agents[0].address, "get", "secret", "--out", str(state)).status == 0
        here, there = (agent.address for agent in lab.agents)
        assert patiently(lambda: tscctl("handoff", "secret", "--from", here, "--to", there)).status == 0
        # Refusals say what is wrong with what they got.
        damaged = tmp_path / "damaged"
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        assert tscctl("--agent", there, "set", "secret", "--in", str(damaged), "--mode", "exact").status != 0

        journals = [_secrets(_copy_journal(node, tmp_path / node.name)) for node in lab.cluster.nodes]
        secrets = [secret for journal in journals for column in journal.values() for secret in column]
        assert all(journals[0][name] for name in ("release_proof", "abort_proof", "answer")) and journals[1]["answer"], journals
        for agent in lab.agents:
            log = agent.process.log()
            assert re.search("handoff", log) and agent.process.poll() is None, log
            assert leaks(log.encode(), [*secrets, state.read_bytes(), bytes(content)]) == []
        for witness in (source, destination):
            witness.quit()
