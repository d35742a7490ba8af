"""The manifests of deploy/kubernetes, against the schemas of Kubernetes and of the Prometheus operator."""

from __future__ import annotations

import copy
import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from . import kustomize
from .packages import PROJECT, output

_KUBERNETES = PROJECT / "deploy/kubernetes"
_VALIDATE = pathlib.Path(__file__).resolve().parent / "validate.mjs"


def _complaints(manifests: list[dict[str, Any]]) -> list[str]:
    done = subprocess.run(["node", _VALIDATE], input=json.dumps(manifests), check=True, text=True, capture_output=True)
    return list(json.loads(done.stdout))


def _agents(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod of the DaemonSet."""
    return next(m for m in manifests if m["kind"] == "DaemonSet")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def base() -> list[dict[str, Any]]:
    return kustomize.resolve(_KUBERNETES / "base")


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    return kustomize.resolve(_KUBERNETES / "overlays/example")


def test_the_manifests_follow_the_schemas(everything: list[dict[str, Any]]) -> None:
    assert sorted({m["kind"] for m in everything}) == ["DaemonSet", "Namespace", "NetworkPolicy", "PodMonitor",
                                                       "PriorityClass", "PrometheusRule", "ServiceAccount"]
    assert _complaints(everything) == []


def test_the_check_finds_a_mistake(base: list[dict[str, Any]]) -> None:
    wrong = copy.deepcopy(base)
    _agents(wrong)["containers"][0]["readinessProbe"]["exec"]["command"] = "not a list"
    assert len(_complaints(wrong)) == 1


def test_every_file_is_used() -> None:
    used = set()
    for path in _KUBERNETES.rglob("kustomization.yaml"):
        used.add(path)
        text = kustomize.yaml.safe_load(path.read_text())
        used |= {path.parent / name for name in text.get("resources", [])}
        used |= {path.parent / patch["path"] for patch in text.get("patches", [])}
    assert set(_KUBERNETES.rglob("*.yaml")) <= used


def test_the_agent_has_no_rights_by_default(base: list[dict[str, Any]]) -> None:
    pod = _agents(base)
    assert not pod.get("hostPID") and not pod.get("hostNetwork")
    assert pod["securityContext"]["runAsNonRoot"]
    context = pod["containers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not context["allowPrivilegeEscalation"] and context["readOnlyRootFilesystem"]


def test_attaching_adds_its_rights_and_no_others(base: list[dict[str, Any]], everything: list[dict[str, Any]]) -> None:
    attached = copy.deepcopy(_agents(everything))
    container = attached["containers"][0]
    assert attached.pop("hostPID") is True
    assert container["securityContext"]["capabilities"]["add"] == ["SYS_PTRACE", "DAC_READ_SEARCH", "DAC_OVERRIDE"]
    plain = copy.deepcopy(_agents(base))
    container.pop("securityContext")
    plain["containers"][0].pop("securityContext")
    assert container["volumeMounts"].pop()["name"] == "debugfs"
    assert attached["volumes"].pop()["name"] == "debugfs"
    assert attached == plain


def test_the_agent_knows_the_options_that_it_is_given(base: list[dict[str, Any]], unpacked: pathlib.Path) -> None:
    options = [word.replace("$(POD_IP)", "10.0.0.1") for word in _agents(base)["containers"][0]["args"]]
    # --help ends the agent before it starts; unknown words are refused before that.
    done = subprocess.run([unpacked / "usr/bin/tsc-agent", *options, "--version"], check=False, text=True,
                          capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_ports_and_directories_fit_together(everything: list[dict[str, Any]]) -> None:
    pod = _agents(everything)
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--listen=0.0.0.0:{ports['grpc']}" in container["args"]
    assert f"--metrics=0.0.0.0:{ports['metrics']}" in container["args"]
    tls = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tls")
    for flag, name in (("cert", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt")):
        assert f"--tls-{flag}={tls}/{name}" in container["args"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for each in [*pod["initContainers"], container]:
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
    policy = next(m for m in everything if m["kind"] == "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == set(ports.values())
    monitor = next(m for m in everything if m["kind"] == "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports
    # The image's user owns the directories.
    user = str(pod["securityContext"]["runAsUser"])
    assert f"{user}:{user}" in pod["initContainers"][0]["command"]
    assert f"USER {user}" in (PROJECT / "deploy/container/Dockerfile").read_text()


def test_the_probes_ask_as_the_agents_program_can(base: list[dict[str, Any]], unpacked: pathlib.Path) -> None:
    container = _agents(base)["containers"][0]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        command = container[probe]["exec"]["command"]
        done = subprocess.run([unpacked / command[0].lstrip("/"), *command[1:], "--version"], check=False, text=True,
                              capture_output=True)
        assert (done.returncode, done.stderr) == (0, ""), command
    # They ask at the default socket.
    assert "--listen=unix:/run/tsc-handoff/agent.sock" in container["args"]


def test_the_prometheus_rule_is_that_of_deploy_prometheus() -> None:
    component = _KUBERNETES / "components/prometheus"
    rules = PROJECT / "deploy/prometheus"
    if not rules.is_dir():
        pytest.skip("this tree has no deploy/prometheus to compare with")
    program = "import sys, pathlib, generate; sys.stdout.write(generate.generate(pathlib.Path(sys.argv[1])))"
    made = output(sys.executable, "-B", "-c", program, rules, cwd=component)
    assert made == (component / "prometheusrule.yaml").read_text(), f"run {component / 'generate.py'}"
