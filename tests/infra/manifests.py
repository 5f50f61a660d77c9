"""Manifests as kubectl renders them, and the Ray clusters, containers and command lines in them."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
OVERLAYS = sorted(path.parent for path in INFRA.glob("kubernetes/overlays/*/kustomization.yaml"))

Manifest = Mapping[str, Any]


def tool(name: str) -> str:
    """Find a linter or kubectl, next to the interpreter that runs the tests or on the path."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    assert found, f"no {name}: pip install -e '.[dev]'"
    return found


@functools.cache
def render(folder: Path) -> tuple[Manifest, ...]:
    """Return the manifests that `kubectl apply -k` would send."""
    command = [tool("kubectl"), "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(yaml.load_all(text, Loader=yaml.CSafeLoader))


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def rayjob_spec(manifest: Manifest) -> Any:
    """Return the RayJobSpec of a RayJob or a RayCronJob."""
    return manifest["spec"]["jobTemplate"] if manifest["kind"] == "RayCronJob" else manifest["spec"]


def cluster_spec(manifest: Manifest) -> Any:
    """Return the RayClusterSpec of a RayJob, a RayCronJob or a RayCluster."""
    return manifest["spec"] if manifest["kind"] == "RayCluster" else rayjob_spec(manifest)["rayClusterSpec"]


def groups(spec: Any) -> list[Any]:
    """Return the head's group, then those of the workers."""
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pod_specs(manifest: Manifest) -> Iterator[Any]:
    """Return every pod that `manifest` leads to."""
    if manifest["kind"] == "CronJob":
        yield manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    elif manifest["kind"].startswith("Ray"):
        yield from (group["template"]["spec"] for group in groups(cluster_spec(manifest)))


def quantity(text: str | int | float) -> Decimal:
    """Return a Kubernetes quantity as a number."""
    units = {"m": Decimal("0.001"), "Mi": 2**20, "Gi": 2**30}
    for unit, factor in units.items():
        if str(text).endswith(unit):
            return Decimal(str(text).removesuffix(unit)) * factor
    return Decimal(str(text))


_RESOURCES = {"CPU": "cpu", "GPU": "nvidia.com/gpu", "memory": "memory"}
"""Ray's resources, by the limits of a container from which KubeRay takes them."""


def nodes(spec: Any, count: str) -> list[dict[str, float]]:
    """Return the nodes that Ray would see, with `count` (replicas or minReplicas) pods in each group of workers."""
    found = []
    for group in spec["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        node = {name: float(quantity(limits.get(key, 0))) for name, key in _RESOURCES.items()}
        found += [node] * group[count]
    return found
