"""New objectives: a class and a table entry suffice to train, validate, sample and bundle one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gan_models import OBJECTIVES, DiscriminatorConfig, GeneratorConfig, Pix2Pix, load_bundle
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.config.validation import Validation
from pipeline.training.monitor import metrics
from pipeline.training.run import conclude, prepare
from tests.pipeline.training import small


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    pool_size: int = 0


class Regression(Pix2Pix):
    """Objective with L1 alone; its discriminator exists but learns nothing."""

    config_type = RegressionConfig  # type: ignore[assignment]

    def step(self, real_a, real_b, *, optimizers, **_):  # type: ignore[no-untyped-def, override]
        optimizers["generators"].zero_grad()
        loss = (self.forward["g"](real_a) - real_b).abs().mean()
        loss.backward()
        optimizers["generators"].step()
        self.steps += 1
        return {"distance": loss.detach()}


def test_it_trains_to_a_bundle(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(OBJECTIVES, "regression", Regression)
    store = small.write_pairs(str(tmp_path / "store"), 4)
    watched = {"validation": Validation(input=store, every=2, images=2), "watch": WatchConfig(sample_every=2)}
    config = small.pix2pix(store, str(tmp_path / "run"), objective="regression", steps=4, **watched)
    plan = prepare(replace(config))
    small.train_here(plan.config)
    result = conclude(plan)
    assert list(result.losses) == ["distance"]
    assert "l1" in metrics.read_metrics(config.output)[1]["validation"]
    assert load_bundle(result.bundle).directions == ("a_to_b",)
