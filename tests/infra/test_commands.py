"""Command lines of infra/, each of which its job takes, and none of which asks for more than its cluster has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipeline.engine.executors.placement import check_placement, demand_of, sized
from pipeline.errors import UserError
from pipeline.training.config.train import TrainConfig
from pipeline.training.distributed.placement import place
from pipeline.translate.config import TranslateConfig
from pipeline.translation.models import stages
from tests.infra import commands
from tests.infra.manifests import INFRA, OVERLAYS, cluster_spec, nodes, of_kind, pod_specs, rayjob_spec, render

_SLOT_VARIABLE = "$SLOT"


def _cron_script(overlay: Path) -> str:
    [cron] = of_kind(render(overlay), "CronJob")
    [container] = next(pod_specs(cron))["containers"]
    [script] = container["args"]
    return str(script)


def _written() -> list[tuple[str, str, Path | None]]:
    """Return where each line is written, the line, and the overlay that its files come from."""
    found: list[tuple[str, str, Path | None]] = []
    for overlay in OVERLAYS:
        for manifest in of_kind(render(overlay), "RayJob", "RayCronJob"):
            found.append((overlay.name, rayjob_spec(manifest)["entrypoint"], overlay))
        if of_kind(render(overlay), "CronJob"):
            found += [(overlay.name, line, overlay) for line in commands.lines_of(_cron_script(overlay))]
    for document in (INFRA / "README.md", *sorted(INFRA.glob("clusters/*.yaml")), *sorted(INFRA.glob("airflow/*.py"))):
        text = document.read_text()
        lines = commands.lines_of_markdown(text) if document.suffix == ".md" else commands.lines_of(text)
        found += [(document.name, line, None) for line in lines]
    return found


def _parameters() -> list[Any]:
    return [
        pytest.param(line, overlay, id=f"{where}-{commands.job_of(line)}-{i}")
        for i, (where, line, overlay) in enumerate(_written())
    ]


def _files(overlay: Path | None, folder: Path) -> dict[str, Path]:
    """Return the files that the pods of `overlay` find under /etc/transdomain."""
    [config] = of_kind(render(overlay or OVERLAYS[0]), "ConfigMap")
    for name, text in config["data"].items():
        (folder / name).write_text(text)
    return {f"/etc/transdomain/{name}": folder / name for name in config["data"]}


@pytest.mark.parametrize(("line", "overlay"), _parameters())
def test_its_job_takes_the_line(line: str, overlay: Path | None, tmp_path: Path) -> None:
    line = line.replace(_SLOT_VARIABLE, "2026-11-23")
    assert commands.read(line, _files(overlay, tmp_path))


def test_lines_are_found_everywhere() -> None:
    found = {(where, commands.job_of(line)) for where, line, _ in _written()}
    for overlay in OVERLAYS:
        nightly = "augment" if "raycronjob" in overlay.name else "submit"
        assert {(overlay.name, name) for name in ("pack", "train", "translate", nightly)} <= found
    assert {where for where, _ in found} >= {"README.md", "aws.yaml", "gcp.yaml"}


@pytest.mark.parametrize("wrong", ["--inputs s3://b/p", "--limits.rows many", "--layout pear"])
def test_a_wrong_line_is_refused(wrong: str) -> None:
    with pytest.raises((UserError, SystemExit)):
        commands.read(f"python -m jobs.pack --input s3://b/p --output s3://b/o {wrong}")


def test_a_line_without_job_is_refused() -> None:
    with pytest.raises(commands.UnknownJobError):
        commands.read("python -m jobs.packs --input s3://b/p --output s3://b/o")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_nodes_of_the_start_have_room(overlay: Path) -> None:
    """The jobs themselves check before they begin, and refuse."""
    for manifest in of_kind(render(overlay), "RayJob"):
        name, count = manifest["metadata"]["name"], "minReplicas"
        if name == "pack":
            assert nodes(cluster_spec(manifest), count)
            continue
        [config] = commands.read(rayjob_spec(manifest)["entrypoint"])
        if isinstance(config, TrainConfig):
            placement = place(config, nodes(cluster_spec(manifest), "replicas"))
            assert place(config, nodes(cluster_spec(manifest), count)).least <= placement.workers
            assert placement.gpus == ("cuda" in str(manifest))
        if isinstance(config, TranslateConfig):
            _translates_on(config, nodes(cluster_spec(manifest), count))


def _translates_on(config: TranslateConfig, there: list[dict[str, float]]) -> None:
    needs = config.resources
    device = "cpu" if config.device == "auto" else config.device
    made = stages(
        config, decode=Mock(), translate=Mock(), encode=Mock(), device=device, translate_stall_s=60.0, apart=(None,) * 3
    )
    check_placement([demand_of(sized(stage, there)) for stage in made], there)
    if config.device == "cpu":  # the driver's node and the actor's have different numbers of cores
        assert needs.threads is not None
        assert needs.actor_cpus is not None
        assert needs.threads <= max(1, round(needs.actor_cpus))


def _day(minutes: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(minutes * 60))


def _slot_of(job: str, folder: Path) -> str:
    """Return the slot that the CronJob's script submits as the Kubernetes Job named `job`."""
    overlay = next(each for each in OVERLAYS if of_kind(render(each), "CronJob"))
    spy = folder / "transdomain"
    spy.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    spy.chmod(0o755)
    environment = os.environ | {"JOB_NAME": job, "PATH": f"{folder}:{os.environ['PATH']}"}
    script = ["/bin/bash", "-euo", "pipefail", "-c", _cron_script(overlay)]
    words = subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    slot = words[words.index("--slot") + 1]
    assert words[words.index("--submission_id") + 1] == f"augment-{slot}"
    return slot


def test_a_late_job_has_the_slot_of_its_schedule(tmp_path: Path) -> None:
    thirty_hours_ago = int(time.time() / 60) - 1800
    assert _slot_of(f"augment-{thirty_hours_ago}", tmp_path) == _day(thirty_hours_ago)


@pytest.mark.parametrize("name", ["by-hand", "20261123", "future"])
def test_a_name_that_is_no_schedule_has_the_slot_of_today(name: str, tmp_path: Path) -> None:
    begun = time.time() / 60
    job = f"augment-{int(begun) + 3000}" if name == "future" else f"augment-{name}"
    slot = _slot_of(job, tmp_path)
    assert slot in {_day(begun), _day(time.time() / 60)}  # midnight may pass meanwhile


def test_the_dashboard_draws_what_exists() -> None:
    import ray.dashboard.modules.reporter.reporter_agent as reporter

    from pipeline.cluster.telemetry import METRICS

    text = (INFRA / "monitoring" / "dashboard.json").read_text()
    expressions = [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", [])]
    used = {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}
    ours = {f"ray_{name}" for name in METRICS}
    assert ours <= used
    of_nodes = {f"ray_{name}" for name in reporter.METRICS_GAUGES} | {"ray_object_store_memory"}
    assert used - ours <= of_nodes
    labels = {label for expression in expressions for label in re.findall(r"(\w+)(?:=~?)\"", expression)}
    assert labels <= {"output"} | {metric.label for metric in METRICS.values()}
