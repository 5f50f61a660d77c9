"""Stores and runs small enough that a training step takes milliseconds, and comparisons of two runs."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_models import DiscriminatorConfig, GeneratorConfig
from pipeline import images, storage
from pipeline.stores.forms.shard import encode_shard
from pipeline.stores.tables.ranges import Range, Ranges
from pipeline.stores.tables.schema import image_array
from pipeline.training import loop
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.train import TrainConfig
from pipeline.training.data import loader
from pipeline.training.data.context import Context
from pipeline.training.distributed.group import Group
from tests import processes
from tests.corpus import picture

SIZE = 36


def write_store(url: str, *, shards: int = 1, **columns: list[np.ndarray | bytes]) -> str:
    """Write a Parquet store with these image columns (arrays are encoded as PNG) and keys 000, 001, …"""
    data = {
        name: [p if isinstance(p, bytes) else images.encode(p, images.Encoding(codec="png")) for p in pictures]
        for name, pictures in columns.items()
    }
    keys = [f"{i:03d}" for i in range(len(next(iter(data.values()))))]
    table = pa.table({"key": keys} | {name: image_array(column, keys) for name, column in data.items()})
    for number, rows in enumerate(np.array_split(np.arange(len(keys)), shards)):
        shard = encode_shard(table.take(pa.array(rows)), {})
        storage.replace(storage.join(url, f"{number:06d}.parquet"), shard)
    return url


def write_pairs(url: str, count: int, *, size: int = SIZE) -> str:
    """Write a paired store in which B is the negative of A."""
    a = [picture(i, size, size) for i in range(count)]
    return write_store(url, image_a=a, image_b=[255 - p for p in a])


def write_unpaired(url: str, count_a: int, count_b: int, *, size: int = SIZE) -> str:
    """Write two stores, `a` and `b`."""
    write_store(storage.join(url, "a"), image=[picture(i, size, size) for i in range(count_a)])
    write_store(storage.join(url, "b"), image=[255 - picture(1000 + i, size, size) for i in range(count_b)])
    return url


def pix2pix(store: str, run: str, **changes: Any) -> TrainConfig:
    """Return the recipe of pix2pix, with dropout and batch norm, for images of 32² and networks of width 4."""
    return TrainConfig(
        **(
            {
                "input": store,
                "output": run,
                "generator": GeneratorConfig(width=4, depth=5, dropout=True),
                "discriminator": DiscriminatorConfig(in_channels=6, width=4, layers=2, norm="batch"),
                "global_batch": 3,
                "load_size": SIZE,
                "crop_size": 32,
                "steps": 7,
                "precision": "fp32",
                "log_every": 1,
                "checkpoint_every": 1,
                "keep_checkpoints": 100,
            }
            | changes
        )
    )


def cyclegan(store: str, run: str, **changes: Any) -> TrainConfig:
    """Return the recipe of CycleGAN, with a pool that is soon full."""
    return pix2pix(
        store,
        run,
        **(
            {
                "objective": "cyclegan",
                "generator": GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance"),
                "discriminator": DiscriminatorConfig(width=4, layers=2),
                "gan_loss": "lsgan",
                "pool_size": 4,
            }
            | changes
        ),
    )


def train_here(config: TrainConfig, **requests: Callable[[], bool]) -> loop.TrainingOutcome:
    """Train in this process, with one thread."""
    return loop.train(_task(config), Group(), torch.device("cpu"), **requests)


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the lines that the code logs in the block."""
    lines: list[str] = []
    logger, handler = logging.getLogger("transdomain"), logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def context(config: TrainConfig, group: Group = Group(), *, images: int | None = None) -> Context:  # noqa: B008
    """Return the run as a rank on the CPU sees it; with `images` given, its store need not exist."""
    if images is None:
        sources = loader.find_sources(config)
    else:
        side = loader.Source(
            url=config.input, column="image", ranges=Ranges.of([Range("0", "drawn/0", "", 0, images, 0)])
        )
        sources = loader.Sources(a=side, b=side)
    return Context(config=config, sources=sources, group=group, device=torch.device("cpu"), threads=1)


def train_in_processes(
    workers: int,
    configs: list[TrainConfig],
    folder: Path,
    *,
    stop_after: int = 0,
) -> None:
    """Train each of `configs` with `workers` processes over gloo, one thread each; the processes are reused.

    `stop_after`, if not 0, is the number of steps after which rank 0 is asked to stop.
    """
    rendezvous = folder / f"rendezvous-{os.urandom(4).hex()}"
    processes.run_ranks(_rank, (workers, configs, str(rendezvous), stop_after), workers)


def after(steps: int) -> Callable[[], bool]:
    """Return a stop request that becomes true the `steps`-th time it is asked; never for 0."""
    asked = itertools.count(1)
    return lambda: next(asked) >= steps > 0


def _rank(
    rank: int,
    workers: int,
    configs: list[TrainConfig],
    rendezvous: str,
    stop_after: int,
) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
    for config in configs:
        group = Group(rank=rank, workers=workers)
        outcome = loop.train(
            _task(config),
            group,
            torch.device("cpu"),
            stop_asked=after(stop_after),
        )
        assert not outcome.failure, outcome.failure
        assert outcome.stopped is bool(stop_after)
    torch.distributed.destroy_process_group()


def _task(config: TrainConfig) -> loop.TrainingTask:
    return loop.TrainingTask(config=config, sources=loader.find_sources(config), threads=1)


def copy_checkpoint(source: str, step: int, target: str) -> None:
    """Copy the checkpoint of `step`, so that `target` is a run that has come no further."""
    prefix = storage.join(source, f"checkpoints/{step:09d}")
    for entry in storage.list_files(prefix):
        storage.replace(storage.join(target, f"checkpoints/{step:09d}/{entry.name}"), storage.read(entry.url))


def final_state(run: str) -> dict[str, Tensor | int | float | str | None]:
    """Return everything in the last checkpoint, flattened."""
    step = checkpoint.steps(run)[-1]
    record = checkpoint.read_record(run, step)
    return flat({name: checkpoint.read_part(run, record, name) for name in record.parts})


def assert_same_bits(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, Tensor):
            assert torch.equal(found[name], value), name
        else:
            assert found[name] == value, name


def bundle_state(run: str) -> dict[str, bytes]:
    """Return the weights in a run's bundle, by file."""
    return {e.name: storage.read(e.url) for e in storage.list_files(storage.join(run, "bundle"), ".safetensors")}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries and lists, by path."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return {prefix: value}
    return {name: leaf for key, inner in items for name, leaf in flat(inner, f"{prefix}/{key}").items()}


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """Return `pixels` as an image file encoded by Pillow."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
