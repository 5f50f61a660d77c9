"""Linters are silent, except where they should speak; the launcher's files are what Ray takes."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
import ray
import yaml

from tests.infra.manifests import INFRA, OVERLAYS, ROOT, render, tool

SCRIPTS = [*sorted(INFRA.rglob("*.sh")), ROOT / ".ci" / "run"]
CLUSTERS = sorted(INFRA.glob("clusters/*.yaml"))


def lint(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, check=False)


def test_shellcheck() -> None:
    done = lint(tool("shellcheck"), *map(str, SCRIPTS))
    assert (done.stdout, done.returncode) == ("", 0)
    assert lint(tool("shellcheck"), "-", text="#!/bin/bash\necho $1\n").returncode == 1


def test_hadolint() -> None:
    done = lint(tool("hadolint"), str(INFRA / "Dockerfile"))
    assert (done.stdout, done.returncode) == ("", 0)
    assert lint(tool("hadolint"), "-", text="FROM python\nRUN pip install torch\n").returncode == 1


def test_yamllint() -> None:
    done = lint(tool("yamllint"), "--strict", str(INFRA), ".yamllint")
    assert (done.stdout, done.returncode) == ("", 0)
    assert lint(tool("yamllint"), "--strict", "-", text="a: 1\na: 2\n").returncode == 1


def _schema() -> Any:
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_the_launcher_takes_its_file(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    jsonschema.validate(config, _schema())
    assert config["head_node_type"] in config["available_node_types"]
    wrong = config | {"max_worker": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, _schema())


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_the_launcher_starts_ray_with_options_that_it_has(path: Path) -> None:
    from ray.scripts.scripts import start

    options = {name for option in start.params for name in option.opts}
    config = yaml.safe_load(path.read_text())
    for command in config["head_start_ray_commands"][1:] + config["worker_start_ray_commands"][1:]:
        used = {word.split("=")[0] for word in command.split() if word.startswith("--")}
        assert used <= options
        assert "RAY_AUTH_MODE=token" in command


def test_the_dag_runs_the_jobs_of_its_overlay() -> None:
    """Airflow itself is not needed for that."""
    operator = mock.MagicMock()
    packages: dict[str, Any] = {
        name: types.ModuleType(name)
        for name in ("airflow", "airflow.sdk", "airflow.providers.standard.operators.bash")
    }  # fmt: skip
    packages["airflow.sdk"].DAG = mock.MagicMock()
    packages["airflow.providers.standard.operators.bash"].BashOperator = operator
    with mock.patch.dict(sys.modules, packages):
        dag = runpy.run_path(str(INFRA / "airflow" / "transdomain_dag.py"))
    overlay = next(each for each in OVERLAYS if dag["OVERLAY"].endswith(f"/{each.relative_to(ROOT)}"))
    jobs = {each["metadata"]["name"]: each["spec"] for each in render(overlay) if each["kind"] == "RayJob"}
    assert {name: hours * 3600 for name, hours in dag["HOURS"].items()} == {
        name: spec["activeDeadlineSeconds"] for name, spec in jobs.items()
    }
    for call in operator.call_args_list:
        done = lint(tool("shellcheck"), "--shell=bash", "-", text=call.kwargs["bash_command"])
        assert (done.stdout, done.returncode) == ("", 0)
