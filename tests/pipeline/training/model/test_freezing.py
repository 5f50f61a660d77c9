"""Frozen parts: their bits stay, the others change, and an unknown name is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from pipeline.training.checkpoints import checkpoint
from pipeline.training.model.freezing import freeze
from pipeline.training.model.replica import build_objective
from tests.pipeline.training import small
from tests.pipeline.training.test_loop import INSTANCE


def states(run: str, step: int) -> dict[str, dict[str, Tensor]]:
    record = checkpoint.read_record(run, step)
    return {name: dict(state) for name, state in checkpoint.read_part(run, record, "networks").items()}


def check_frozen(run: str, names: tuple[str, ...]) -> None:
    """Check that steps 2 and 3 change everything except `names` and what lies below them, by the checkpoints."""
    before, after = states(run, 1), states(run, 3)
    for network, tensors in after.items():
        for key, tensor in tensors.items():
            path = f"{network}.{key}"
            frozen = any(path == name or path.startswith(f"{name}.") for name in names)
            assert tensor.equal(before[network][key]) == frozen, path


@pytest.mark.parametrize("names", [("g.model.model.1",), ("d",), ("g",), ("d.model.3", "g.model.model.0.weight")])
def test_frozen_parts_of_pix2pix_keep_their_bits_statistics_included(names: tuple[str, ...]) -> None:
    pairs = small.write_pairs("memory://freezing/pairs", 3)
    run = f"memory://freezing/pix2pix/{'-'.join(names)}"
    small.train_here(small.pix2pix(pairs, run, steps=3, freeze=names, global_batch=2))
    check_frozen(run, names)


@pytest.mark.parametrize("names", [("g_BA", "d_A"), ("g_AB.model.1",), ("d_A", "d_B"), ("g_AB", "g_BA")])
def test_frozen_parts_of_cyclegan_keep_their_bits(names: tuple[str, ...]) -> None:
    unpaired = small.write_unpaired("memory://freezing/unpaired", 3, 2)
    run = f"memory://freezing/cyclegan/{'-'.join(names)}"
    small.train_here(small.cyclegan(unpaired, run, steps=3, freeze=names))
    check_frozen(run, names)


@pytest.mark.long
def test_two_workers_train_around_what_is_frozen(tmp_path: Path) -> None:
    pairs = small.write_pairs(str(tmp_path / "pairs"), 4)
    whole: dict[str, Any] = {"steps": 3, "freeze": ("g.model.model.1.model.3", "d")}
    config = small.pix2pix(pairs, str(tmp_path / "run"), **INSTANCE, **whole)
    small.train_in_processes(2, [config], tmp_path)
    before, after = states(config.output, 1), states(config.output, 3)
    small.assert_same_bits(after["d"], before["d"])
    inner = [key for key in after["g"] if key.startswith("model.model.1.model.3.")]
    assert inner
    assert all(after["g"][key].equal(before["g"][key]) for key in inner)
    assert not after["g"]["model.model.0.weight"].equal(before["g"]["model.model.0.weight"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("G",), "freeze names G: nothing that could learn is called so; there are g, d$"),
        (("g.model.7",), r"g\.model\.7: .*; in g\.model there is g\.model\.model$"),
        (("d.model.1",), r"d\.model\.1: .*; in d\.model there are d\.model\.0, d\.model\.2"),
        (("d.model.0.scale",), r"in d\.model\.0 there are d\.model\.0\.weight, d\.model\.0\.bias"),
        (("g", "d"), "freeze is g d: nothing is left to learn"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_those_that_are(names: tuple[str, ...], message: str) -> None:
    objective = build_objective(small.pix2pix("in", "out"))
    with pytest.raises(ValueError, match=message):
        freeze(objective.networks, names)
