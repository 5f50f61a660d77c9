"""Verdicts of Kubernetes and KubeRay's operator on the manifests, and proof that the checks can say no."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.infra import operator, schemas
from tests.infra.manifests import INFRA, OVERLAYS, cluster_spec, of_kind, rayjob_spec, render

RAY_KINDS = ("RayJob", "RayCronJob", "RayCluster")
KUBERNETES = "1.34"

overlays = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)


@overlays
def test_an_overlay_has_every_job(overlay: Path) -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in render(overlay)}
    jobs = {("RayJob", name) for name in ("pack", "train", "translate")}
    nightly = {("CronJob", "augment"), ("RayCluster", "transdomain")}, {("RayCronJob", "augment")}
    assert names - jobs - {("ServiceAccount", "transdomain"), ("ConfigMap", "transdomain-augment")} in nightly
    assert jobs < names


@schemas.needed
@overlays
def test_kuberay_knows_every_field(overlay: Path) -> None:
    found = of_kind(render(overlay), *RAY_KINDS)
    assert {each["metadata"]["name"]: schemas.errors(each) for each in found} == {
        each["metadata"]["name"]: [] for each in found
    }


@overlays
def test_the_operator_takes_them(overlay: Path) -> None:
    for manifest in of_kind(render(overlay), *RAY_KINDS):
        assert operator.violations(manifest) == []


@pytest.mark.parametrize("folder", [*OVERLAYS, INFRA / "monitoring"], ids=lambda path: path.name)
def test_kubernetes_knows_every_field_of_its_own_kinds(folder: Path) -> None:
    own = [each for each in render(folder) if each["kind"] not in (*RAY_KINDS, "PodMonitor")]
    assert own
    for manifest in own:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_kubernetes_knows_no_misspelled_field() -> None:
    cron = copy.deepcopy(of_kind(render(OVERLAYS[0]), "CronJob")[0])
    cron["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(cron, KUBERNETES, strict=True)


def _job() -> Any:
    return copy.deepcopy(next(each for each in render(OVERLAYS[0]) if each["metadata"]["name"] == "train"))


def _cluster(change: Callable[[Any], object]) -> Any:
    job = _job()
    change(cluster_spec(job))
    return job


def _spec(**fields: Any) -> Any:
    job = _job()
    rayjob_spec(job).update(fields)
    return job


@schemas.needed
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_spec(shutdownAfterJobFinish=True), "shutdownAfterJobFinish"),
        (_spec(ttlSecondsAfterFinished="3600"), "not of type 'integer'"),
        (_cluster(lambda spec: spec.pop("headGroupSpec")), "'headGroupSpec' is a required property"),
        (_cluster(lambda spec: spec["workerGroupSpecs"][0].pop("template")), "'template' is a required property"),
        (_cluster(lambda spec: spec["authOptions"].update(mode="tokens")), "'tokens' is not one of"),
        (_cluster(lambda spec: spec["authOptions"].update(secret="name")), "'secret' was unexpected"),
        (
            _cluster(
                lambda spec: spec["headGroupSpec"]["template"]["spec"].update(terminationGracePeriodSecond=180)
            ),
            "terminationGracePeriodSecond",
        ),
    ],
)  # fmt: skip
def test_the_schema_refuses(wrong: Any, said: str) -> None:
    assert any(said in error for error in schemas.errors(wrong))


def _named(name: str, kind: str = "RayJob") -> Any:
    job = _job()
    job["kind"], job["metadata"]["name"] = kind, name
    if kind == "RayCronJob":
        job["spec"] = {"schedule": "0 2 * * *", "jobTemplate": job["spec"]}
    return job


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_named("a" * 48), "takes 47 characters"),
        (_named("a" * 37, "RayCronJob"), "takes 36 characters"),
        (_named("1st"), "DNS-1035"),
        (_spec(suspend=True, shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0), "suspend"),
        (_spec(shutdownAfterJobFinishes=False), "ttlSecondsAfterFinished"),
        (_spec(clusterSelector={"ray.io/cluster": "other"}), "one of"),
        (_spec(activeDeadlineSeconds=0), "activeDeadlineSeconds"),
        (_spec(submissionMode="K8sJob"), "submissionMode"),
        (_spec(submissionMode="SidecarMode"), "submitterConfig"),
        (_spec(submissionMode="InteractiveMode"), "backoffLimit"),
        (_spec(runtimeEnvYAML="- a list"), "runtimeEnvYAML"),
        (_cluster(lambda spec: spec["workerGroupSpecs"][0].update(minReplicas=9)), "above maxReplicas"),
        (_cluster(lambda spec: spec["headGroupSpec"]["template"]["spec"].update(restartPolicy="Always")), "Never"),
        (_cluster(lambda spec: spec["headGroupSpec"].update(resources={"CPU": "1"})), "two places"),
        (_cluster(lambda spec: spec["authOptions"].update(enableK8sTokenAuth=True)), "enableK8sTokenAuth"),
    ],
)
def test_the_rules_refuse(wrong: Any, said: str) -> None:
    assert any(said in violation for violation in operator.violations(wrong))
