"""Arithmetic of a translation where the driver of a cluster has no GPU and its workers have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gan_models import GeneratorConfig
from pipeline.engine.records.layout import Output
from pipeline.errors import UserError
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import choose_arithmetic

RESNET = GeneratorConfig(kind="resnet", depth=1)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def choose(recorded: dict[str, Any] | None = None, **options: Any) -> Any:
    config = TranslateConfig(input="in", output="out", bundle="bundle", **options)
    return choose_arithmetic(config, RESNET, recorded or {}, Output("/out"))


def test_a_driver_without_gpu_takes_the_cluster_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    asked = choose(device="cuda", precision="bf16")
    assert (asked.device, asked.precision, asked.batch, asked.trunk) == ("cuda", "bf16", 16, "direct")
    assert choose({"device": "cuda", "precision": "fp32", "batch": 8}).precision == "fp32"


def test_it_does_not_guess_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UserError, match="add --precision bf16"):
        choose(device="cuda")


@pytest.mark.parametrize("local", [True, False])
def test_without_a_cluster_a_gpu_must_be_here(monkeypatch: pytest.MonkeyPatch, local: bool) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if local:
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UserError, match="this machine has none"):
        choose(device="cuda", precision="bf16", local=local)
