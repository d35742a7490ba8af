"""Completion as it happens in a real bash and a real zsh, with the scripts of the packages."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import subprocess
import time

import pytest

_BASH = r"""
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
compopt() { echo "FILES"; }
"$(complete -p "$1" | sed 's/.*-F \([^ ]*\) .*/\1/')" "$1" "${@: -1}" "${@: -2:1}"
printf '%s\n' "${COMPREPLY[@]}"
"""


def _bash(unpacked: pathlib.Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    script = unpacked / "usr/share/bash-completion/completions" / words[0]
    done = subprocess.run(["bash", "--norc", "-c", _BASH, "bash", script, *words], check=True, text=True,
                          capture_output=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_and_options(unpacked: pathlib.Path) -> None:
    assert _bash(unpacked, "tscctl", "hand") == ["handoff", "handoffs"]
    assert "--from" in _bash(unpacked, "tscctl", "handoff", "--")
    # An option of tscctl itself may stand behind the command, and before it.
    assert _bash(unpacked, "tscctl", "vms", "--age") == ["--agent"]
    assert _bash(unpacked, "tscctl", "-o", "json", "vm") == ["vms"]
    assert _bash(unpacked, "tsc-agent", "--vmm") == ["--vmm-socket"]


def test_bash_completes_the_words_of_an_option(unpacked: pathlib.Path) -> None:
    assert _bash(unpacked, "tscctl", "vms", "-o", "") == ["table", "json"]
    assert _bash(unpacked, "tscctl", "--output", "=", "j") == ["json"]
    assert _bash(unpacked, "tscctl", "handoff", "vm1", "--mode", "ex") == ["exact"]
    assert _bash(unpacked, "tsc-agent", "--log-level", "w") == ["warn"]


def test_bash_completes_files_only_where_a_file_is_wanted(unpacked: pathlib.Path) -> None:
    assert _bash(unpacked, "tscctl", "get", "vm1", "--out", "") == ["FILES"]
    assert _bash(unpacked, "tscctl", "decode", "") == ["FILES"]
    assert _bash(unpacked, "tsc-agent", "--journal", "") == ["FILES"]
    assert _bash(unpacked, "tscctl", "--agent", "") == []


def test_the_value_of_an_option_is_no_command(unpacked: pathlib.Path) -> None:
    assert _bash(unpacked, "tscctl", "--agent", "handoff", "ev") == ["evacuate"]


# Shown when zsh edits a line: what is typed before that is the terminal's, which knows no completion.
_PROMPT = "zsh-is-ready> "


class _Zsh:
    """An interactive zsh on a terminal of its own, to press Tab in."""

    def __init__(self, functions: pathlib.Path, home: pathlib.Path) -> None:
        self._screen = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(home)
            os.execve("/usr/bin/zsh", ["zsh", "-f", "-i"],
                      {"PATH": "/usr/bin:/bin", "HOME": str(home), "TERM": "dumb", "COLUMNS": "200"})
        self._run(f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -D; PS1='{_PROMPT}'; unsetopt zle_bracketed_paste")
        # What Tab makes of the line is put where it can be read, instead of being drawn.
        # And a Tab with more behind it is Tab all the same, no character of a text that is pasted.
        self._run("zstyle ':completion:*' list-prompt ''; LISTMAX=10000; setopt no_beep auto_list no_list_ambiguous")
        self._run("zstyle ':completion:*' insert-tab false")

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._pid, 0)

    def tab(self, line: str) -> str:
        """All that appears when Tab is pressed twice behind `line`."""
        self._screen = ""
        os.write(self._terminal, line.encode() + b"\t\t")
        # The line is killed after it: what follows marks the end of what Tab has shown.
        os.write(self._terminal, b"\x15echo END-\"\"MARK\r")
        return self._read_until("END-MARK")

    def _run(self, command: str) -> None:
        self._screen = ""
        os.write(self._terminal, f"{command}; echo END-\"\"MARK\r".encode())
        self._read_until("END-MARK")

    def _read_until(self, mark: str) -> str:
        deadline = time.monotonic() + 60
        while mark not in self._screen or _PROMPT not in self._screen[self._screen.rindex(mark):]:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"zsh said no more than {self._screen!r}"
            self._screen += os.read(self._terminal, 65536).decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._screen)


@pytest.fixture(scope="module")
def zsh(unpacked: pathlib.Path, tmp_path_factory: pytest.TempPathFactory):
    shell = _Zsh(unpacked / "usr/share/zsh/vendor-completions", tmp_path_factory.mktemp("zsh"))
    yield shell
    shell.close()


def test_zsh_completes_commands_options_and_words(zsh: _Zsh) -> None:
    shown = zsh.tab("tscctl ")
    assert "evacuate" in shown and "Hand over all VMs of a host" in shown
    assert "--source-agent" in zsh.tab("tscctl handoff vm1 --so")
    assert "--output=" in zsh.tab("tscctl vms --outp")
    assert "elapsed" in zsh.tab("tscctl handoff vm1 --mode=")
    assert "--vmm-socket=" in zsh.tab("tsc-agent --vmm")
    assert "warn" in zsh.tab("tsc-agent --log-level=w")
