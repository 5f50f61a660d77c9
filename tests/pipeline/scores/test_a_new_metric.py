"""New metric: with one entry of one table, validation and evaluation measure it, and its report shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.run import evaluate
from pipeline.scores import table
from pipeline.training.config.validation import Validation
from pipeline.training.validation.validator import Validator
from tests.corpus import picture
from tests.pipeline.training import small


def test_it_is_measured_and_shown_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worst = table.Metric(name="worst", title="worst pixel", on="pairs", of_pair=lambda a, b: float(np.abs(a - b).max()))
    monkeypatch.setattr(table, "METRICS", (*table.METRICS, worst))
    images = [picture(i, 32, 32) for i in range(3)]
    store = small.write_store(str(tmp_path / "store"), image=images, image_b=images)
    report = evaluate(EvaluateConfig(input=store, output=str(tmp_path / "report"), local=True))
    assert "worst pixel" in report
    (found,) = json.loads((tmp_path / "report/scores.json").read_bytes())["inputs"].values()
    assert found["scores"]["translation"]["worst"]["value"] == 0
    pairs = small.write_store(str(tmp_path / "pairs"), image_a=images, image_b=images)
    config = small.pix2pix(pairs, "memory://none", validation=Validation(input=pairs))
    assert Validator(config, torch.device("cpu")).measure({"g": torch.nn.Identity()})["worst"] < 256
