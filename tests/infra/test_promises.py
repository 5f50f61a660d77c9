"""Promises of the manifests beyond being valid: enough time, enough memory, no secrets, one version everywhere."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cluster import host
from tests.infra.manifests import (
    INFRA,
    OVERLAYS,
    ROOT,
    Manifest,
    cluster_spec,
    groups,
    of_kind,
    pod_specs,
    quantity,
    rayjob_spec,
    render,
)

RAY_KINDS = ("RayJob", "RayCronJob", "RayCluster")
overlays = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line[:60])


def environment(container: Any) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container.get("env", [])}


def containers(manifests: tuple[Manifest, ...]) -> list[tuple[Any, Any]]:
    """Return every pod with its container."""
    return [(pod, container) for each in manifests for pod in pod_specs(each) for container in pod["containers"]]


@overlays
def test_a_stopped_job_has_time_for_its_checkpoint(overlay: Path) -> None:
    for manifest in of_kind(render(overlay), *RAY_KINDS):
        head = cluster_spec(manifest)["headGroupSpec"]["template"]["spec"]["containers"][0]
        for group in groups(cluster_spec(manifest)):
            pod = group["template"]["spec"]
            *command, role, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert command == ["python", "/opt/transdomain/infra/drain.py"]
            assert role == ("worker" if "groupName" in group else "head")
            times = [int(environment(head)["RAY_JOB_STOP_WAIT_TIME_S"]), int(seconds)]
            times.append(pod["terminationGracePeriodSeconds"])
            assert times[0] >= 60
            assert all(longer >= shorter + 30 for shorter, longer in pairwise(times))


@overlays
def test_the_object_store_fits_into_shared_memory(overlay: Path) -> None:
    for manifest in of_kind(render(overlay), *RAY_KINDS):
        for group in groups(cluster_spec(manifest)):
            pod = group["template"]["spec"]
            container = pod["containers"][0]
            mount = next(each for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm")
            volume = next(each["emptyDir"] for each in pod["volumes"] if each["name"] == mount["name"])
            assert volume["medium"] == "Memory"
            store, shared = int(group["rayStartParams"]["object-store-memory"]), quantity(volume["sizeLimit"])
            assert store <= shared <= quantity(container["resources"]["limits"]["memory"]) / 2


@overlays
def test_ray_asks_for_the_token_of_the_secret(overlay: Path) -> None:
    for manifest in of_kind(render(overlay), *RAY_KINDS):
        assert cluster_spec(manifest)["authOptions"] == {"mode": "token", "secretName": "transdomain-token"}
    for cron in of_kind(render(overlay), "CronJob"):
        [container] = next(pod_specs(cron))["containers"]
        token = next(each for each in container["env"] if each["name"] == "RAY_AUTH_TOKEN")
        assert token["valueFrom"]["secretKeyRef"] == {"name": "transdomain-token", "key": "auth_token"}
        assert environment(container)["RAY_AUTH_MODE"] == "token"


_STARTS = re.compile(r"^[^#\n]*?(ray start|\{ray\[@\]\}\" start)", re.MULTILINE)
"""Pattern of a command that starts a node, comments aside."""


def test_every_ray_that_is_started_asks_for_a_token() -> None:
    """The line itself asks for it, or an export before it."""
    files = [ROOT / "README.md", *(path for path in INFRA.rglob("*") if path.is_file())]
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    started = {name: text for name, text in texts.items() if _STARTS.search(text)}
    launchers = {"infra/clusters/aws.yaml", "infra/clusters/gcp.yaml"}
    assert started.keys() >= {"README.md", "infra/local-cluster.sh", *launchers}
    script = started.pop("infra/local-cluster.sh")
    for name, text in started.items():
        for found in _STARTS.finditer(text):
            exported = re.search(r"^export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=", text[: found.start()], re.MULTILINE)
            assert "RAY_AUTH_MODE=token" in found[0] or exported, f"{name}: {found[0]}"
    # The script writes a file of exports, and loads it before it launches.
    order = ["export RAY_AUTH_MODE=token", "export RAY_AUTH_TOKEN=", "\n    load\n", "launch --head"]
    places = [script.index(each) for each in order]
    assert places == sorted(places)
    for name in launchers:
        assert yaml.safe_load(texts[name])["file_mounts"]["~/.ray/auth_token"] == "~/.transdomain-token"
    assert not [name for name, text in texts.items() if re.search(r"RAY_AUTH_MODE\W+(value:\W*)?disabled", text)]


@overlays
def test_no_container_may_become_root(overlay: Path) -> None:
    for pod, container in containers(render(overlay)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@overlays
def test_keys_come_from_the_secret_or_from_the_identity(overlay: Path) -> None:
    by_identity = "workload-identity" in overlay.name
    ray = [each for manifest in of_kind(render(overlay), *RAY_KINDS) for each in pod_specs(manifest)]
    for pod in ray:
        secrets = [each["secretRef"]["name"] for each in pod["containers"][0].get("envFrom", [])]
        assert secrets == ([] if by_identity else ["transdomain-s3"])
        assert pod["serviceAccountName"] == "transdomain"
        assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & environment(pod["containers"][0]).keys()
    [account] = of_kind(render(overlay), "ServiceAccount")
    assert bool(account["metadata"].get("annotations")) == by_identity


@overlays
def test_gpu_pods_bear_the_taint_of_gpu_nodes(overlay: Path) -> None:
    wanted = [
        pod for pod, container in containers(render(overlay)) if "nvidia.com/gpu" in container["resources"]["limits"]
    ]
    assert bool(wanted) == overlay.name.startswith("gpu")
    for pod in wanted:
        assert any(each["key"] == "nvidia.com/gpu" and each["operator"] == "Exists" for each in pod["tolerations"])


@overlays
def test_every_run_ends_and_leaves_no_cluster(overlay: Path) -> None:
    for manifest in of_kind(render(overlay), "RayJob", "RayCronJob"):
        spec = rayjob_spec(manifest)
        assert spec["shutdownAfterJobFinishes"] is True
        assert spec["ttlSecondsAfterFinished"] > 0
        assert spec["activeDeadlineSeconds"] > spec["preRunningDeadlineSeconds"]
        assert yaml.safe_load(spec["runtimeEnvYAML"]) == {"env_vars": host.WORKER_ENVIRONMENT}


@overlays
def test_all_clusters_of_an_overlay_are_alike(overlay: Path) -> None:
    """The nightly cluster, of whichever kind, is that of translate."""
    found = of_kind(render(overlay), "RayCluster", "RayCronJob")
    translate = next(each for each in render(overlay) if each["metadata"]["name"] == "translate")
    assert [cluster_spec(each) for each in found] == [cluster_spec(translate)]


@overlays
def test_a_slot_is_not_run_twice_at_once(overlay: Path) -> None:
    for cron in of_kind(render(overlay), "CronJob"):
        assert cron["spec"]["concurrencyPolicy"] == "Forbid"
        assert cron["spec"]["startingDeadlineSeconds"] < 86400


@overlays
def test_versions_are_those_of_the_project(overlay: Path) -> None:
    images = {container["image"] for _, container in containers(render(overlay))}
    device = "cuda" if overlay.name.startswith("gpu") else "cpu"
    assert images == {f"{PROJECT['name']}:{PROJECT['version']}-{device}"}
    for manifest in of_kind(render(overlay), *RAY_KINDS):
        assert cluster_spec(manifest)["rayVersion"] == PINNED["ray"]


def test_the_dockerfile_is_of_a_python_that_the_project_takes() -> None:
    text = (INFRA / "Dockerfile").read_text()
    [python] = re.findall(r"^ARG PYTHON=(\d+)\.(\d+)\.\d+-slim-\w+$", text, re.MULTILINE)
    least = re.findall(r"\d+", PROJECT["requires-python"])
    assert [int(each) for each in python] >= [int(each) for each in least]
    named = set(re.findall(r"-t (\S+)", text))
    assert named == {f"{PROJECT['name']}:{PROJECT['version']}-{device}" for device in ("cpu", "cuda")}


def test_the_image_gets_every_package_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", (INFRA / "Dockerfile").read_text(), re.MULTILINE))
    assert {each for line in copied for each in line.split()} == kept
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {each.removesuffix("*") for each in packages} < kept
    assert ignored[1] == "*"
