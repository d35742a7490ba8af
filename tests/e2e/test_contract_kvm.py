"""The contract of a port over KVM, on the real KVM of a node (kvm-amd) and of Bochs (kvm-intel with TSC scaling)."""

from __future__ import annotations

import pathlib
from xml.etree import ElementTree

import pytest

from ..bochs import bochs
from ..demo.lab import Lab
from ..programs import binary
from . import gtest_cases

PROGRAM = "tests/contract/contract_kvm"
Results = dict[str, ElementTree.Element]


def case_names() -> list[str]:
    return gtest_cases.names(binary(PROGRAM))


@pytest.fixture(scope="module")
def on_kvm_amd(lab: Lab) -> Results:
    node = lab.cluster.nodes[0]
    done = node.run([binary(PROGRAM), "--require=kvm,kept,debugfs,masterclock", "--gtest_output=xml:/tmp/contract.xml"], timeout=300, check=False)
    try:
        return gtest_cases.results(node.read_file("/tmp/contract.xml").decode())
    except Exception as error:
        raise AssertionError(f"the suite left no result ({done.returncode}): {done.stdout[-3000:]}{done.stderr}") from error


@pytest.fixture(scope="module")
def on_kvm_intel(tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = pathlib.Path(tmp_path_factory.mktemp("bochs"))
    lines: list[str] = []
    status = bochs.run(binary(PROGRAM), ["--require=kvm,kept,scaling,debugfs,masterclock", "--gtest_output=xml:/out/contract.xml"], out, timeout_s=1500,
                       on_line=lines.append)
    result = out / "contract.xml"
    assert result.is_file(), f"the suite left no result ({status}): {lines[-40:]}"
    return gtest_cases.results(result.read_text())


@pytest.mark.parametrize("name", case_names())
def test_on_kvm_amd(name: str, on_kvm_amd: Results) -> None:
    gtest_cases.report(name, on_kvm_amd)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", case_names())
def test_on_kvm_intel_with_tsc_scaling(name: str, on_kvm_intel: Results) -> None:
    gtest_cases.report(name, on_kvm_intel)
