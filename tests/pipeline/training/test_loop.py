"""Loop of one rank, in this process and in several: what a resumed run and several workers must agree on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_models import DiscriminatorConfig, GeneratorConfig
from pipeline import storage
from pipeline.cluster import hardware
from pipeline.models import measuring
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.schedule import LearningRateSchedule
from pipeline.training.config.train import TrainConfig
from pipeline.training.monitor import metrics
from tests.pipeline.training import small

Recipe = Callable[[str, str], TrainConfig]


@pytest.fixture(scope="module")
def pairs() -> str:
    return small.write_pairs("memory://loop/pairs", 7)


@pytest.fixture(scope="module")
def unpaired() -> str:
    return small.write_unpaired("memory://loop/unpaired", 7, 5)


@pytest.mark.parametrize(
    ("objective", "trunk"),
    [
        ("pix2pix", "direct"),
        pytest.param("cyclegan", "direct", marks=pytest.mark.long),  # either half of it is in the other two
        ("cyclegan", "winograd"),
    ],
)
def test_a_run_resumed_at_any_step_ends_with_the_same_bits(
    objective: str, trunk: str, pairs: str, unpaired: str
) -> None:
    """This includes dropout, batch norm's statistics, Adam's moments and a full image pool."""

    def recipe(run: str) -> TrainConfig:
        make, store = (small.pix2pix, pairs) if objective == "pix2pix" else (small.cyclegan, unpaired)
        return make(store, run, trunk=trunk)

    through = f"memory://loop/{objective}/{trunk}/through"
    small.train_here(recipe(through))
    expected, lines = small.final_state(through), metrics.read_metrics(through)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    for step in range(1, 7):
        resumed = f"memory://loop/{objective}/{trunk}/{step}"
        small.copy_checkpoint(through, step, resumed)
        assert small.train_here(recipe(resumed)).step == 7
        small.assert_same_bits(small.final_state(resumed), expected)
        found = metrics.read_metrics(resumed)
        assert [(line["step"], line["losses"]) for line in found] == [
            (line["step"], line["losses"]) for line in lines[step:]
        ]


EVERYTHING: dict[str, Any] = {
    "ema": 0.9,
    "accumulate": 2,
    "schedule": LearningRateSchedule(
        kind="plateau", patience=0, threshold=0.9, plateau_factor=0.5, warmup_steps=4, batch_rule="sqrt"
    ),
}
"""Every option that has a state, with a plateau that begins in the second epoch."""


# CycleGAN has the more state: two generators, two averages and two pools of images.
@pytest.mark.parametrize("objective", [pytest.param("pix2pix", marks=pytest.mark.long), "cyclegan"])
@pytest.mark.parametrize("steps", [(2, 4, 6), pytest.param(range(1, 8), marks=pytest.mark.long)])
def test_averages_micro_batches_and_the_schedules_state_are_resumed_to_the_bit(
    steps: Sequence[int], objective: str, pairs: str, unpaired: str
) -> None:
    make, store = (small.pix2pix, pairs) if objective == "pix2pix" else (small.cyclegan, unpaired)
    folder = f"memory://loop/everything/{len(steps)}/{objective}"
    through = f"{folder}/through"
    small.train_here(make(store, through, steps=8, **EVERYTHING))
    expected, lines = small.final_state(through), metrics.read_metrics(through)
    full = 2e-4 * 3**0.5
    rates = [full / 4, full / 2, full * 3 / 4, full, full, full, full / 2, full / 2]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)
    for step in steps:
        resumed = f"{folder}/{step}"
        small.copy_checkpoint(through, step, resumed)
        small.train_here(make(store, resumed, steps=8, **EVERYTHING))
        small.assert_same_bits(small.final_state(resumed), expected)
        assert [line["learning_rate"] for line in metrics.read_metrics(resumed)] == [
            line["learning_rate"] for line in lines[step:]
        ]


def test_the_average_is_that_of_the_generators_after_each_step(pairs: str) -> None:
    run = "memory://loop/average"
    small.train_here(small.pix2pix(pairs, run, steps=6, ema=0.2, learning_rate=1e-2))
    records = [checkpoint.read_record(run, step) for step in range(1, 7)]
    weights = [checkpoint.read_part(run, record, "networks")["g"]["model.model.0.weight"] for record in records]
    averages = [checkpoint.read_part(run, record, "ema")["g"]["model.model.0.weight"] for record in records]
    for step in range(2, 7):
        decay = min(0.2, (1 + step) / (10 + step))
        expected = decay * averages[step - 2] + (1 - decay) * weights[step - 1]
        torch.testing.assert_close(averages[step - 1], expected, rtol=1e-5, atol=1e-7)


def test_training_learns(pairs: str) -> None:
    """The L1 of a small U-Net on seven pairs falls to less than two thirds."""
    run = "memory://loop/learns"
    small.train_here(small.pix2pix(pairs, run, steps=120, learning_rate=2e-3, checkpoint_every=120))
    l1 = [line["losses"]["g_l1"] for line in metrics.read_metrics(run)]
    assert sum(l1[-10:]) < 0.66 * sum(l1[:10])


def test_the_learning_rate_is_that_of_the_recipe(pairs: str) -> None:
    """The rate is constant for two epochs, then falls linearly to what would be zero one epoch after the last."""
    run = "memory://loop/rate"
    small.train_here(small.pix2pix(pairs, run, steps=None, epochs=2, decay_epochs=1, checkpoint_every=9))
    lines = metrics.read_metrics(run)
    assert [(line["epoch"], line["learning_rate"]) for line in lines] == [
        (1, 2e-4), (1, 2e-4), (1, 2e-4), (2, 2e-4), (2, 2e-4), (2, 2e-4), (3, 1e-4), (3, 1e-4), (3, 1e-4)
    ]  # fmt: skip


def test_a_run_keeps_the_form_that_it_measured(unpaired: str, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the run's record before the first step, and no later start measures again."""
    run = "memory://loop/form"
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure", lambda forms, *_, **__: dict(zip(forms, (2.0, 1.0), strict=True)))
        small.train_here(small.cyclegan(unpaired, run, steps=1))
    assert any(line.startswith("fp32, Winograd, eager is the fastest here, forward and backward: ") for line in said)
    assert any(line.startswith("trunk winograd: ") for line in said)
    assert checkpoint.read_record(run, 1).about["arithmetic"]["trunk"] == "winograd"
    kept = json.loads(storage.read(f"{run}/arithmetic.json"))
    assert (kept["precision"], kept["trunk"]) == ("fp32", "winograd")
    assert kept["figures"]["seconds"] == {"fp32, Winograd, eager": 1.0, "fp32, eager": 2.0}

    monkeypatch.setattr(measuring, "measure", lambda *_, **__: pytest.fail("measured again"))
    assert small.train_here(small.cyclegan(unpaired, run, steps=2)).step == 2
    assert "resuming from the checkpoint of step 1" in said


def test_a_run_of_an_earlier_version_keeps_what_its_checkpoint_says(
    unpaired: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = "memory://loop/older"
    small.train_here(small.cyclegan(unpaired, run, trunk="auto", steps=1))
    storage.delete(f"{run}/arithmetic.json")
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: pytest.fail("measured again"))
    assert small.train_here(small.cyclegan(unpaired, run, trunk="auto", steps=2)).step == 2


def test_a_machine_that_lacks_the_form_of_a_run_is_refused(unpaired: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "memory://loop/lacking"
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "supported_precisions", lambda device: ("fp32", "bf16"))
        patch.setattr(measuring, "measure", lambda forms, *_, **__: {form: 9.0 - i for i, form in enumerate(forms)})
        small.train_here(small.cyclegan(unpaired, run, precision="auto", steps=1))
    monkeypatch.setattr(hardware, "supported_precisions", lambda device: ("fp32",))
    outcome = small.train_here(small.cyclegan(unpaired, run, precision="auto", steps=2))
    assert outcome.failure.startswith(
        f"{run}: this run began in bf16, eager, and precision bf16 is not in the hardware of this cpu ("
    )
    assert outcome.failure.endswith("; go on with it on machines that have it, or begin another run")


def test_a_record_that_is_damaged_ends_before_the_first_step(unpaired: str) -> None:
    run = "memory://loop/damaged-form"
    storage.create(f"{run}/arithmetic.json", b"{")
    outcome = small.train_here(small.cyclegan(unpaired, run))
    assert outcome.failure == f"{run}/arithmetic.json is damaged; put it back from a copy, or begin another run"


def test_old_checkpoints_go_and_the_last_step_has_one(pairs: str) -> None:
    run = "memory://loop/kept"
    small.train_here(small.pix2pix(pairs, run, steps=7, checkpoint_every=2, keep_checkpoints=2))
    assert checkpoint.steps(run) == [6, 7]


def test_a_run_that_is_asked_to_stop_loses_no_step(pairs: str) -> None:
    through, stopped = "memory://loop/unstopped", "memory://loop/stopped"
    small.train_here(small.pix2pix(pairs, through))
    config = small.pix2pix(pairs, stopped, checkpoint_every=100, log_every=100)
    outcome = small.train_here(config, stop_asked=small.after(4))
    assert (outcome.step, outcome.stopped, outcome.failure) == (4, True, "")
    assert checkpoint.steps(stopped) == [4]
    assert small.train_here(config).step == 7
    small.assert_same_bits(small.final_state(stopped), small.final_state(through))


def test_a_checkpoint_of_a_later_format_is_no_reason_to_begin_anew(pairs: str) -> None:
    config = small.pix2pix(pairs, "memory://loop/later", steps=2)
    small.train_here(config)
    url = storage.join(config.output, "checkpoints/000000002/record.json")
    storage.replace(url, storage.read(url).replace(b'"format_version": 1', b'"format_version": 9'))
    assert "checkpoint format 9" in small.train_here(config).failure
    assert checkpoint.steps(config.output) == [1, 2]


def test_all_workers_stop_after_the_same_step(tmp_path: Path) -> None:
    pairs = small.write_pairs(str(tmp_path / "pairs"), 7)
    config = small.pix2pix(pairs, str(tmp_path / "run"), steps=60, checkpoint_every=100, **INSTANCE)
    small.train_in_processes(2, [config], tmp_path, stop_after=5)
    assert checkpoint.steps(config.output) == [6]  # a request of rank 0 after a step is known to all after the next


def test_a_warning_of_a_preemption_writes_one_checkpoint(pairs: str) -> None:
    run = "memory://loop/preempted"
    small.train_here(small.pix2pix(pairs, run, checkpoint_every=100), preempted=small.after(3))
    assert checkpoint.steps(run) == [3, 7]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_ends_the_same(pairs: str) -> None:
    through, damaged = "memory://loop/undamaged", "memory://loop/damaged"
    small.train_here(small.pix2pix(pairs, through))
    for step in (3, 4):
        small.copy_checkpoint(through, step, damaged)
    part = checkpoint.read_record(damaged, 4).parts["networks"][0]
    url = storage.join(damaged, f"checkpoints/{4:09d}/{part}")
    storage.replace(url, storage.read(url)[:-100])
    small.train_here(small.pix2pix(pairs, damaged))
    small.assert_same_bits(small.final_state(damaged), small.final_state(through))
    assert metrics.read_metrics(damaged)[0]["step"] == 4


def test_other_images_under_the_same_run_are_refused(pairs: str) -> None:
    run = "memory://loop/others"
    small.train_here(small.pix2pix(pairs, run, steps=2))
    others = small.write_pairs("memory://loop/other_pairs", 8)
    outcome = small.train_here(small.pix2pix(others, run, steps=4))
    assert "not those that this run began with" in outcome.failure


def test_the_same_images_from_another_place_go_on(pairs: str) -> None:
    run = "memory://loop/moved"
    small.train_here(small.pix2pix(pairs, run, steps=2))
    moved = small.write_pairs("memory://loop/moved_pairs", 7)
    assert small.train_here(small.pix2pix(moved, run, steps=4)).step == 4


def test_a_diverging_run_stops_with_the_step_and_the_last_checkpoint(pairs: str) -> None:
    run = "memory://loop/diverges"
    outcome = small.train_here(
        small.pix2pix(pairs, run, steps=50, learning_rate=1e30, checkpoint_every=50, lambda_l1=1e30)
    )
    assert outcome.step < 50
    assert "there is no checkpoint" in outcome.failure
    assert f"step {outcome.step}" in outcome.failure
    assert checkpoint.steps(run) == []


def test_an_undecodable_image_stops_the_run_and_is_named() -> None:
    good = small.picture(0, 8, 8)
    store = small.write_store("memory://loop/bad", image_a=[good, b"no picture"], image_b=[good, good])
    outcome = small.train_here(small.pix2pix(store, "memory://loop/bad_run"))
    assert "image_a of '001' cannot be decoded" in outcome.failure


PLATEAU = LearningRateSchedule(kind="plateau", patience=0, threshold=0.9, warmup_steps=2)
INSTANCE = {
    "generator": GeneratorConfig(width=4, depth=5, norm="instance"),
    "discriminator": DiscriminatorConfig(in_channels=6, width=4, layers=2),
}


def several_workers_agree_with_one(workers: int, folder: Path) -> None:
    """Check that several workers agree with one, and that their resumed run ends with the same bits.

    This includes averages and micro-batches. Seven samples in global batches of three make uneven shares, and in the
    last batch of an epoch some rank has no sample.
    """
    pairs = small.write_pairs(str(folder / "pairs"), 7)
    unpaired = small.write_unpaired(str(folder / "unpaired"), 7, 5)

    # The larger share of each of these global batches is split into micro-batches.
    more: dict[str, Any] = {"ema": 0.9, "accumulate": 2, "global_batch": 2 * workers, "schedule": PLATEAU}

    def recipes(name: str, **changes: int) -> list[TrainConfig]:
        return [
            small.pix2pix(pairs, str(folder / f"pix2pix-{name}"), **INSTANCE, **changes),
            small.cyclegan(unpaired, str(folder / f"cyclegan-{name}"), **changes),
            small.pix2pix(pairs, str(folder / f"pix2pix-more-{name}"), **INSTANCE, **more, **changes),
            small.cyclegan(unpaired, str(folder / f"cyclegan-more-{name}"), trunk="winograd", **more, **changes),
        ]

    for config in recipes("alone"):
        small.train_here(config)
    small.train_in_processes(workers, recipes("through") + recipes("resumed", steps=4) + recipes("resumed"), folder)
    for alone, through, resumed in zip(*map(recipes, ("alone", "through", "resumed")), strict=True):
        small.assert_same_bits(small.final_state(resumed.output), small.final_state(through.output))
        if alone.ema:
            assert_averages_agree(through.output, alone.output)
        expected, found = metrics.read_metrics(alone.output), metrics.read_metrics(through.output)
        assert [line["step"] for line in found] == [line["step"] for line in expected]
        for line, other in zip(expected, found, strict=True):
            # Rounding grows from step to step: training is chaotic in fp32.
            assert other["losses"] == pytest.approx(line["losses"], rel=1e-5 if line["step"] <= 3 else 1e-2)
            assert other["learning_rate"] == line["learning_rate"]


def assert_averages_agree(run: str, other: str) -> None:
    """Check the averages after the first step, where rounding has had the least effect."""
    found, expected = (checkpoint.read_part(r, checkpoint.read_record(r, 1), "ema") for r in (run, other))
    assert found.keys() == expected.keys()
    for network, tensors in expected.items():
        weights = {key: tensor for key, tensor in tensors.items() if key.endswith("weight")}
        assert weights
        for key, tensor in weights.items():
            torch.testing.assert_close(found[network][key], tensor, rtol=0, atol=1e-5, msg=f"{network} {key}")


def test_two_workers_agree_with_one(tmp_path: Path) -> None:
    several_workers_agree_with_one(2, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("workers", [3, 4])
def test_more_workers_agree_with_one(workers: int, tmp_path: Path) -> None:
    several_workers_agree_with_one(workers, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("make", "workers"), [(small.pix2pix, 1), (small.cyclegan, 2)])
def test_compiled_networks_learn_what_eager_ones_do(
    make: Callable[..., TrainConfig], workers: int, tmp_path: Path
) -> None:
    store = small.write_pairs(str(tmp_path / "in"), 7)
    # Without dropout, whose masks compiled code draws otherwise.
    changes = {"generator": small.cyclegan("", "").generator, "workers": workers, "steps": 3}
    if make is small.cyclegan:
        store = small.write_unpaired(str(tmp_path / "apart"), 5, 7)
    runs = {when: make(store, str(tmp_path / when), compile=when, **changes) for when in ("never", "always")}
    small.train_in_processes(workers, list(runs.values()), tmp_path)
    eager, compiled = (metrics.read_metrics(run.output) for run in runs.values())
    assert [line["step"] for line in compiled] == [line["step"] for line in eager] == [1, 2, 3]
    for ours, theirs in zip(compiled, eager, strict=True):  # rounding grows from step to step
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5 if ours["step"] == 1 else 1e-2)
    assert compiled[-1]["losses"] != eager[-1]["losses"]
