"""Evaluation of a small translated store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.evaluate import job
from pipeline.evaluate.config import EvaluateConfig
from tests.corpus import picture
from tests.pipeline.training import small


def evaluate(folder: Path, name: str, change: int) -> tuple[str, dict[str, dict[str, float]]]:
    """Return the report and the scores of translations that are darker than their targets by `change`."""
    targets = [picture(i, 40, 40) // 2 + 60 for i in range(4)]
    url = small.write_store(str(folder / name), image=[t - change for t in targets], image_b=targets)
    said = job.evaluate(EvaluateConfig(input=url, output=str(folder / f"{name}-report")))
    return said, json.loads((folder / f"{name}-report" / "scores.json").read_bytes())


def test_the_scores_and_the_report_name_the_features_of_their_kid(tmp_path: Path) -> None:
    said, equal = evaluate(tmp_path, "equal", 0)
    assert "KID on efficientnet_lite0: not to be compared with published KID" in said
    _, dark = evaluate(tmp_path, "dark", 50)
    assert equal["translation"]["l1_mean"] == 0
    assert dark["translation"]["l1_mean"] == pytest.approx(50 / 255)
    assert equal["translation"]["kid_efficientnet_lite0"] < dark["translation"]["kid_efficientnet_lite0"]


def test_without_the_features_there_is_no_kid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "features_are_there", lambda: False)
    said, scores = evaluate(tmp_path, "plain", 10)
    assert "KID" not in said
    assert not [name for name in scores["translation"] if "kid" in name]
