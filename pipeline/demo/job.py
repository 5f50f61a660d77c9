"""Run pack, train, translate and evaluate in a row on a small paired set, in one process with one Ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from gan_models import DiscriminatorConfig, GeneratorConfig
from pipeline import images, storage
from pipeline.cluster import connection
from pipeline.demo.config import DemoConfig
from pipeline.demo.drawing import draw_pairs
from pipeline.engine import launch
from pipeline.engine.records.limits import Limits
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.run import evaluate
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs
from pipeline.training.config.train import TrainConfig
from pipeline.training.run import run as train
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.verify.job import verify

log = logging.getLogger("transdomain")

_UNIT = Limits(rows=64)  # small, so that even this set has several units


def demo(config: DemoConfig) -> str:
    """Run all jobs, or what is left of them, and return the report as text."""
    output = storage.absolute(config.output)
    pictures = storage.absolute(config.data) if config.data else _draw(config, f"{output}/pictures")
    with connection.connect():
        pack = PackConfig(
            input=pictures,
            output=f"{output}/store",
            layout="pairs",
            split={"train": 0.8, "test": 0.2},
            seed=config.seed,
            limits=_UNIT,
        )
        _timed("pack", lambda: launch.run_engine(lambda: pack_jobs(pack), pack))
        _timed("train", lambda: train(train_config(config, output)))
        translate = TranslateConfig(
            input=f"{output}/store/test",
            output=f"{output}/translated",
            bundle=(f"{output}/run/bundle",),
            size="training",
            keep_source=True,
            limits=_UNIT,
        )
        with launch.Computing(translate, translate.bundle) as compute:
            _timed("translate", lambda: launch.run_engine(lambda: [translate_job(translate, compute)], translate))
        verdict = verify(translate.output)
        if verdict.faults:
            raise RuntimeError(f"{translate.output} is not whole: {verdict.faults[0]}")
        evaluation = EvaluateConfig(
            input=translate.output,
            output=f"{output}/evaluation",
            train=f"{output}/store/train",
            bundle=translate.bundle[0],
        )
        return evaluate(evaluation)


def train_config(config: DemoConfig, output: str) -> TrainConfig:
    """Return a pix2pix of half the width at a small size, which two cores learn in a few minutes."""
    depth = config.size.bit_length() - 1
    return TrainConfig(
        input=f"{output}/store/train",
        output=f"{output}/run",
        objective="pix2pix",
        direction="b_to_a",
        generator=GeneratorConfig(kind="unet", width=32, depth=depth, norm="batch", dropout=True),
        discriminator=DiscriminatorConfig(in_channels=6, width=32, norm="batch"),
        global_batch=4,
        load_size=config.size * 286 // 256,
        crop_size=config.size,
        steps=config.steps,
        checkpoint_every=250,
        seed=config.seed,
    )


def _draw(config: DemoConfig, url: str) -> str:
    """Draw the streets that do not exist yet, and return `url`."""
    there = {entry.name for entry in storage.list_files(url)}
    for name, pair in draw_pairs(config.pictures, config.size, config.seed):
        if f"{name}.png" not in there:
            storage.replace(storage.join(url, f"{name}.png"), images.encode(pair, images.Encoding(codec="png")))
    return url


def _timed(name: str, step: Callable[[], object]) -> None:
    started = time.monotonic()
    step()
    log.info("%s took %.0f s", name, time.monotonic() - started)
