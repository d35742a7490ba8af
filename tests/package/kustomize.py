"""Resolves a kustomization, as far as deploy/kubernetes uses kustomize: resources, components, namespace, images, and
JSON patches with a target. Debian has no kustomize; whatever else a kustomization says is refused here, so that nothing
is passed over in silence."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import yaml

_KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "namespace", "images"}


def resolve(directory: pathlib.Path, into: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The manifests that `kubectl kustomize DIRECTORY` would print, in order."""
    text = yaml.safe_load((directory / "kustomization.yaml").read_text())
    unknown = set(text) - _KNOWN
    assert not unknown, f"{directory}: this resolver knows no {unknown}"
    component = text["kind"] == "Component"
    manifests = into if component and into is not None else []
    for name in text.get("resources", []):
        path = directory / name
        manifests += resolve(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for name in text.get("components", []):
        resolve(directory / name, manifests)
    for patch in text.get("patches", []):
        targets = [manifest for manifest in manifests if _matches(manifest, patch["target"])]
        assert targets, f"{directory}: no manifest for the patch {patch}"
        for target in targets:
            for operation in yaml.safe_load((directory / patch["path"]).read_text()):
                _apply(target, copy.deepcopy(operation))
    for image in text.get("images", []):
        for container in _containers(manifests):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    if "namespace" in text:
        for manifest in manifests:
            assert manifest["metadata"].get("namespace", text["namespace"]) == text["namespace"]
    return manifests


def _matches(manifest: dict[str, Any], target: dict[str, str]) -> bool:
    return manifest["kind"] == target["kind"] and manifest["metadata"]["name"] == target["name"]


def _apply(manifest: dict[str, Any], operation: dict[str, Any]) -> None:
    """One operation of RFC 6902: add or replace."""
    *parents, last = operation["path"].lstrip("/").split("/")
    place: Any = manifest
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert operation["op"] in ("add", "replace")
    if isinstance(place, list):
        assert (operation["op"], last) == ("add", "-")
        place.append(operation["value"])
    else:
        assert operation["op"] == "add" or last in place
        place[last] = operation["value"]


def _containers(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests if manifest["kind"] == "DaemonSet"]
    return [container for pod in pods for container in [*pod.get("initContainers", []), *pod["containers"]]]
