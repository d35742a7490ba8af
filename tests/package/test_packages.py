"""What is in the packages, and what Debian's own checkers say of it. Boots nothing and installs nothing."""

from __future__ import annotations

import hashlib
import pathlib
import re
import subprocess

import pytest

from ..security import hardening
from . import packages
from .packages import PROJECT, output

# What lintian may find, with the reason.
_ACCEPTED = (
    "bogus-mail-host",  # no mail address is set where the packages are built: $DEBEMAIL
    "bogus-mail-host-in-debian-changelog",
)


def _files(package: pathlib.Path) -> set[str]:
    lines = output("dpkg-deb", "--contents", package).splitlines()
    return {line.split()[5].removeprefix(".") for line in lines if not line.startswith("d")}


def test_the_version_is_that_of_the_source(made: dict[str, pathlib.Path]) -> None:
    version = re.search(r'kVersion\[\] = "(.+)"', (PROJECT / "server/base/version.h").read_text())
    assert version is not None
    assert {packages.field(package, "Version") for package in made.values()} == {version.group(1)}


def test_each_package_has_what_it_is_for(made: dict[str, pathlib.Path]) -> None:
    assert {"/usr/bin/tsc-agent", "/lib/systemd/system/tsc-agent.service", "/usr/lib/sysusers.d/tsc-handoff.conf",
            "/usr/lib/tmpfiles.d/tsc-handoff.conf", "/etc/tsc-handoff/agent.yaml", "/usr/share/man/man8/tsc-agent.8.gz",
            "/usr/share/doc/tsc-handoff-agent/examples/attach.conf",
            "/usr/share/doc/tsc-handoff-agent/examples/policy.yaml",
            "/usr/share/bash-completion/completions/tsc-agent",
            "/usr/share/zsh/vendor-completions/_tsc-agent"} <= _files(made["tsc-handoff-agent"])  # fmt: skip
    assert {"/usr/bin/tscctl", "/usr/share/man/man1/tscctl.1.gz", "/usr/share/doc/tsc-handoff-tools/examples/tscctl.yaml", "/usr/share/bash-completion/completions/tscctl",
            "/usr/share/zsh/vendor-completions/_tscctl"} <= _files(made["tsc-handoff-tools"])
    lib = "/usr/lib/x86_64-linux-gnu"
    version = packages.field(made["libtsc-vmm0"], "Version")
    assert {f"{lib}/libtsc_vmm.so.0", f"{lib}/libtsc_vmm.so.{version}"} <= _files(made["libtsc-vmm0"])
    assert {f"{lib}/libtsc_vmm.so", f"{lib}/libtsc_vmm.a", f"{lib}/pkgconfig/tsc_vmm.pc",
            "/usr/include/tsc-handoff/tsc_vmm.h", "/usr/include/tsc-handoff/tsc_kvm.h",
            "/usr/share/man/man3/tsc_vmm.3.gz"} <= _files(made["libtsc-vmm-dev"])  # fmt: skip


def test_no_program_is_in_two_packages(made: dict[str, pathlib.Path]) -> None:
    seen: set[str] = set()
    for package in made.values():
        files = _files(package)
        assert not files & seen
        seen |= files


def test_all_in_etc_is_a_conffile(made: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    for name, package in made.items():
        output("dpkg-deb", "--control", package, tmp_path / name)
        listed = tmp_path / name / "conffiles"
        conffiles = set(listed.read_text().split()) if listed.exists() else set()
        assert {file for file in _files(package) if file.startswith("/etc/")} == conffiles


def test_the_same_tree_makes_the_same_bytes(made: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    again = packages.make_packages(tmp_path)
    for name, package in made.items():
        assert hashlib.sha256(package.read_bytes()).digest() == hashlib.sha256(again[name].read_bytes()).digest(), name


def test_lintian_finds_nothing(made: dict[str, pathlib.Path]) -> None:
    done = subprocess.run(["lintian", "--allow-root", "--tag-display-limit", "0",
                           "--suppress-tags", ",".join(_ACCEPTED), *made.values()],
                          check=False, text=True, capture_output=True)  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def _verify(unpacked: pathlib.Path, directory: pathlib.Path) -> None:
    """Lets systemd read the unit as it would at boot, with what lies beside it in `directory`."""
    unit = directory / "tsc-agent.service"
    text = (unpacked / "lib/systemd/system/tsc-agent.service").read_text()
    # Its program is where it is unpacked, not in /usr/bin.
    unit.write_text(text.replace("/usr/bin/tsc-agent", str(unpacked / "usr/bin/tsc-agent")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit], check=False,
                          text=True, capture_output=True)
    said = [line for line in done.stderr.splitlines() if "tsc-agent" in line]
    assert (said, done.returncode) == ([], 0), done.stderr


def test_systemd_has_nothing_to_say_against_the_unit(unpacked: pathlib.Path, tmp_path: pathlib.Path) -> None:
    _verify(unpacked, tmp_path)


def test_systemd_has_nothing_to_say_against_the_drop_in(unpacked: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tsc-agent.service.d").mkdir()
    example = unpacked / "usr/share/doc/tsc-handoff-agent/examples/attach.conf"
    (tmp_path / "tsc-agent.service.d/attach.conf").write_text(example.read_text())
    _verify(unpacked, tmp_path)


def test_the_unit_is_hardened_to_2_0_or_better(unpacked: pathlib.Path) -> None:
    # --offline rates the file; the machine itself may run no systemd.
    done = output("systemd-analyze", "security", "--offline=true", "--no-pager",
                  unpacked / "lib/systemd/system/tsc-agent.service")
    exposure = re.search(r"Overall exposure level for tsc-agent.service: ([0-9.]+)", done)
    assert exposure is not None, done
    assert float(exposure.group(1)) <= 2.0, done


@pytest.mark.parametrize("path", ["usr/bin/tsc-agent", "usr/bin/tscctl", "usr/lib/x86_64-linux-gnu/libtsc_vmm.so.0"])
def test_what_is_stripped_for_a_package_is_as_hardened_as_before(unpacked: pathlib.Path, path: str) -> None:
    assert hardening.findings(unpacked / path, stripped=True) == []


@pytest.mark.parametrize("linking", ["shared", "static"])
def test_a_vmm_builds_with_pkg_config_alone(unpacked: pathlib.Path, tmp_path: pathlib.Path, linking: str) -> None:
    lib = unpacked / "usr/lib/x86_64-linux-gnu"
    pc = tmp_path / "tsc_vmm.pc"
    pc.write_text((lib / "pkgconfig/tsc_vmm.pc").read_text().replace("prefix=/usr", f"prefix={unpacked}/usr"))
    flags = {line.split(":")[0]: line.split(":", 1)[1] for line in pc.read_text().splitlines() if ":" in line}
    prefix = f"{unpacked}/usr"
    words = (flags["Cflags"] + flags["Libs"] + (flags["Libs.private"] if linking == "static" else ""))
    words = words.replace("${includedir}", f"{prefix}/include").replace("${libdir}", str(lib))
    static = ["-Wl,-Bstatic"] if linking == "static" else []
    program = tmp_path / "vmm"
    example = unpacked / "usr/share/doc/libtsc-vmm-dev/examples/example_vmm.c"
    output("gcc", "-std=gnu11", "-Wall", "-Werror", f"-I{prefix}/include", "-o", program, example,
           *words.replace("-ltsc_vmm", " ".join([*static, "-ltsc_vmm", "-Wl,-Bdynamic"])).split())
    needs = output("objdump", "-p", program)
    assert ("libtsc_vmm.so.0" in needs) == (linking == "shared")
    assert "libstdc++" not in needs


def test_the_library_shows_its_public_functions_and_needs_only_libc(unpacked: pathlib.Path) -> None:
    library = unpacked / "usr/lib/x86_64-linux-gnu/libtsc_vmm.so.0"
    symbols = {line.split()[2].split("@")[0] for line in output("nm", "-D", "--defined-only", library).splitlines()}
    header = (PROJECT / "client/vmm/tsc_vmm.h").read_text() + (PROJECT / "client/vmm/tsc_kvm.h").read_text()
    declared = set(re.findall(r"^[a-z][\w ]*[ *]+(tsc_(?:vmm|kvm)_\w+)\(", header, re.MULTILINE))
    assert declared == symbols - {"TSC_VMM_0"}
    assert re.findall(r"NEEDED\s+(\S+)", output("objdump", "-p", library)) == ["libc.so.6"]


def test_the_librarys_manual_page_has_every_function(unpacked: pathlib.Path) -> None:
    header = (PROJECT / "client/vmm/tsc_vmm.h").read_text()
    page = (PROJECT / "deploy/debian/tsc_vmm.3").read_text()
    for function in re.findall(r"^[a-z][\w ]*[ *]+(tsc_vmm_\w+)\(", header, re.MULTILINE):
        assert function in page
    assert (unpacked / "usr/share/man/man3/tsc_vmm.3.gz").exists()


@pytest.mark.parametrize("page", ["man8/tsc-agent.8.gz", "man1/tscctl.1.gz", "man3/tsc_vmm.3.gz"])
def test_manual_pages_are_set_without_a_warning(unpacked: pathlib.Path, page: str) -> None:
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", unpacked / "usr/share/man" / page],
                          check=False, capture_output=True, text=True,
                          env={"MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
    assert (done.stderr, done.returncode) == ("", 0)


def test_every_option_is_in_the_manual_page(unpacked: pathlib.Path) -> None:
    for program, page in (("tsc-agent", "man8/tsc-agent.8.gz"), ("tscctl", "man1/tscctl.1.gz")):
        text = output("man", "-l", unpacked / "usr/share/man" / page)
        plain = re.sub(r".\x08", "", text)
        for option in set(re.findall(r"(?<!\S)--[a-z][a-z-]+", output(unpacked / "usr/bin" / program, "--help"))):
            assert option in plain, f"{option} of {program}"
