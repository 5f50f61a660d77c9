"""Measure a training run's loader, in memory and streamed, against the training step and against decoding."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch

from pipeline import images
from pipeline.benchmark.basis import inputs
from pipeline.benchmark.basis.config import IngestBenchmarkConfig
from pipeline.demo import job
from pipeline.demo.config import DemoConfig
from pipeline.training.config.train import TrainConfig
from pipeline.training.data import loader
from pipeline.training.data.context import Context
from pipeline.training.data.feed import Feed, open_data
from pipeline.training.data.reads import ReadMonitor
from pipeline.training.distributed.group import Group
from pipeline.training.model.replica import Replica

STEP = "training step alone"
_WAYS: dict[str, Literal["memory", "stream"]] = {"in memory": "memory", "streamed": "stream"}
_EPOCHS = 2
"""Number of epochs that the loader alone runs through in one measurement."""


@contextlib.contextmanager
def measurements(
    config: IngestBenchmarkConfig, scratch: str, device: torch.device, precision: str, threads: int
) -> Iterator[dict[str, Callable[[], float]]]:
    """Write a store and open it in both ways; yield what measures each rate, in images/s, both of a pair counted."""
    assert config.pairs
    with contextlib.ExitStack() as stack:
        pictures = inputs.pictures(min(2 * config.pairs, 64), config.source_size)
        inputs.write_pairs(f"{scratch}/store", pictures, config.pairs)
        recipe = _recipe(config, scratch)
        feeds = {name: stack.enter_context(_open(recipe, way, device, threads)) for name, way in _WAYS.items()}
        yield dict(_measurements(config, recipe, pictures, feeds, device, precision, threads))


def _measurements(
    config: IngestBenchmarkConfig,
    recipe: TrainConfig,
    pictures: Sequence[bytes],
    feeds: Mapping[str, Feed],
    device: torch.device,
    precision: str,
    threads: int,
) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield the measurements by name, in the order of the table."""
    assert config.pairs
    assert config.steps
    context = _context(recipe, device, threads)
    replica, steps = Replica(context, precision), config.steps
    all_steps = _EPOCHS * context.order.steps_per_epoch

    def decode(data: bytes) -> None:
        images.resize(images.decode(data).pixels, recipe.load_size, recipe.load_size)

    decoded = [pictures[i % len(pictures)] for i in range(config.pairs)]

    def decoding() -> int:
        with ThreadPoolExecutor(threads) as pool:
            return len(list(pool.map(decode, decoded)))

    def loading(feed: Feed) -> int:
        return sum(2 * feed.batch(step).samples for step in range(all_steps))

    def train(feed: Feed, which: Sequence[int]) -> int:
        trained = 0
        for step in which:
            batch = feed.batch(step) if step else first
            replica.step(batch.real_a, batch.real_b, step=step, samples=batch.samples)
            trained += 2 * batch.samples
        return trained

    first = feeds["in memory"].batch(0)
    yield f"decode and resize alone, {threads} thread(s)", lambda: _rate(decoding, device)
    for name, feed in feeds.items():
        yield f"loader alone, {name}", lambda feed=feed: _rate(lambda: loading(feed), device)  # type: ignore[misc]
    yield STEP, lambda: _rate(lambda: train(feeds["in memory"], [0] * steps), device)
    for name, feed in feeds.items():
        yield f"training, {name}", lambda feed=feed: _rate(lambda: train(feed, range(1, steps + 1)), device)  # type: ignore[misc]


def _rate(action: Callable[[], int], device: torch.device) -> float:
    """Run an action and return its rate in images/s."""
    began_s = time.perf_counter()
    count = action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - began_s)


def _recipe(config: IngestBenchmarkConfig, scratch: str) -> TrainConfig:
    """Return the demonstration's recipe for a measurement."""
    assert config.steps
    recipe = job.train_config(DemoConfig(size=config.size), scratch)
    return dataclasses.replace(
        recipe,
        input=f"{scratch}/store",
        global_batch=config.global_batch,
        shuffle_buffer=config.shuffle_buffer,
        steps=None,
        epochs=_EPOCHS + config.steps,
    )


def _open(recipe: TrainConfig, way: Literal["memory", "stream"], device: torch.device, threads: int) -> Feed:
    recipe = dataclasses.replace(recipe, streaming=way)
    reads = ReadMonitor()
    context = _context(recipe, device, threads)
    return Feed(open_data(context, reads), context, reads)


def _context(recipe: TrainConfig, device: torch.device, threads: int) -> Context:
    sources = loader.find_sources(recipe)
    return Context(config=recipe, sources=sources, group=Group(), device=device, threads=threads)
