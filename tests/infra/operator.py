"""Rules of KubeRay's operator that its schemas do not hold: plain functions from a manifest to what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.infra.manifests import Manifest, cluster_spec, groups, rayjob_spec

LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayCronJob": 36}
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_START_RESOURCES = {"num-cpus", "num-gpus", "memory", "resources"}


def violations(manifest: Manifest) -> list[str]:
    """Return all that the operator would refuse in a RayCluster, RayJob or RayCronJob."""
    found = list(_of_name(manifest))
    if manifest["kind"] == "RayCronJob":
        found += _of_schedule(manifest["spec"])
    if manifest["kind"] in ("RayJob", "RayCronJob"):
        spec = rayjob_spec(manifest)
        found += _of_job(spec)
        if "rayClusterSpec" not in spec:
            return found
    return found + list(_of_cluster(cluster_spec(manifest)))


def _of_name(manifest: Manifest) -> Iterator[str]:
    name, longest = manifest["metadata"]["name"], LONGEST_NAME[manifest["kind"]]
    if len(name) > longest:
        yield f"name: {manifest['kind']} takes {longest} characters, {name} has {len(name)}"
    if not _DNS_1035.fullmatch(name):
        yield f"name: {name} is no DNS-1035 label"


def _of_schedule(spec: Any) -> Iterator[str]:
    if "TZ" in spec["schedule"]:
        yield "schedule: no TZ in it, there is timeZone"
    if len(spec["schedule"].split()) != 5:
        yield "schedule: five fields"
    if spec.get("timeZone") == "":
        yield "timeZone: empty"


def _of_job(spec: Any) -> Iterator[str]:
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not shuts_down:
        yield "suspend: needs shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) and not shuts_down:
        yield "ttlSecondsAfterFinished: needs shutdownAfterJobFinishes"
    if ("rayClusterSpec" in spec) == bool(spec.get("clusterSelector")):
        yield "one of rayClusterSpec and clusterSelector"
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(name, 1) <= 0:
            yield f"{name}: must be positive"
    if spec.get("submissionMode", "K8sJobMode") not in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"):
        yield f"submissionMode: there is no {spec['submissionMode']}"
    if spec.get("submissionMode") == "SidecarMode" and "submitterConfig" in spec:
        yield "submitterConfig: not in SidecarMode"
    if spec.get("submissionMode") == "InteractiveMode" and spec.get("backoffLimit"):
        yield "backoffLimit: not in InteractiveMode"
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        yield "runtimeEnvYAML: no mapping"


def _of_cluster(spec: Any) -> Iterator[str]:
    autoscales = spec.get("enableInTreeAutoscaling", False)
    version_2 = autoscales and spec.get("autoscalerOptions", {}).get("version") == "v2"
    for group in groups(spec):
        name, pod = group.get("groupName", "head"), group["template"]["spec"]
        if version_2 and pod.get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy must be Never under version 2 of the autoscaler"
        if group.get("resources") and _START_RESOURCES & set(group.get("rayStartParams", {})):
            yield f"{name}: resources in two places"
        if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31 - 1):
            yield f"{name}: minReplicas is above maxReplicas"
        if autoscales and group.get("suspend"):
            yield f"{name}: cannot be suspended under the autoscaler"
        if "labels" in group.get("rayStartParams", {}):
            yield f"{name}: labels are a field of the group"
    variables = [each["name"] for each in spec["headGroupSpec"]["template"]["spec"]["containers"][0].get("env", [])]
    if "RAY_enable_autoscaler_v2" in variables and spec.get("autoscalerOptions", {}).get("version"):
        yield "RAY_enable_autoscaler_v2 and autoscalerOptions.version"
    if "RAY_REDIS_ADDRESS" in variables and "gcsFaultToleranceOptions" not in spec:
        yield "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions"
    if spec.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth: not for RayJobs"
