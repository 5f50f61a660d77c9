from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import torch
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from gan_models import DiscriminatorConfig, GeneratorConfig
from pipeline.errors import StorageError
from pipeline.stores.forms import shard
from pipeline.training import loop
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.train import TrainConfig
from pipeline.training.data import feed, loader, node, stream
from pipeline.training.data import lanes as laning
from pipeline.training.data import order as ordering
from pipeline.training.data.context import order_of
from pipeline.training.data.feed import Feed, StepBatch
from pipeline.training.data.reads import ReadMonitor
from pipeline.training.distributed.group import Group
from pipeline.training.monitor import metrics
from tests import processes
from tests.conftest import new_prefix
from tests.pipeline.training import small

CPU, ALONE = torch.device("cpu"), Group()


def open_feed(config: TrainConfig, group: Group = ALONE, *, every_s: float = 60) -> Feed:
    """Open the feed like the loop does, for one rank that has its node to itself."""
    context, reads = small.context(config, group), ReadMonitor(every_s=every_s)
    if config.streaming == "stream":
        data = feed.open_data(context, reads)
    else:
        images = node.load_shared(context.sources, config.load_size, Group(), 2, reads=reads)
        data = feed.InMemory(images=images, order=context.order, group=group)
    return Feed(data, context, reads)


def batches(config: TrainConfig, steps: range, group: Group = ALONE) -> list[StepBatch]:
    with open_feed(config, group) as opened:
        return [opened.batch(step) for step in steps]


def same(found: StepBatch, expected: StepBatch) -> bool:
    return torch.equal(found.real_a, expected.real_a) and torch.equal(found.real_b, expected.real_b)


@pytest.fixture(params=["memory", "stream"])
def way(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pairs() -> str:
    return small.write_pairs("memory://feed/pairs", 7)


@pytest.fixture(scope="module")
def unpaired() -> str:
    return small.write_unpaired("memory://feed/unpaired", 7, 5)


@pytest.fixture
def recipes(pairs: str, unpaired: str, way: str) -> list[TrainConfig]:
    changes: dict[str, Any] = {"streaming": way, "shuffle_buffer": 2, "steps": 9}
    return [
        small.pix2pix(pairs, "memory://feed/run", **changes),
        small.cyclegan(unpaired, "memory://feed/run", **changes),
    ]


def test_batches_hold_the_images_of_the_order_cropped_and_flipped(pairs: str) -> None:
    config = small.pix2pix(pairs, "memory://feed/run")
    sources = loader.find_sources(config)
    images, order = loader.load_images(sources, small.SIZE, threads=1), order_of(config, sources)
    for step, batch in enumerate(batches(config, range(4))):
        samples = ordering.global_batch(order, step)
        how = ordering.augmentation(order, samples, "a", room=4, flip=True)
        crops = loader.cut(images.a[samples.a], how, 32)
        assert torch.equal(batch.real_a, loader.to_input(crops, CPU, torch.contiguous_format))
        assert (batch.epoch, batch.samples) == (samples.epoch, len(samples))


def test_a_batch_does_not_depend_on_what_was_asked_for_before(recipes: list[TrainConfig]) -> None:
    for config in recipes:
        through = batches(config, range(9))
        with open_feed(config) as opened:
            for step in (7, 8, 2, 2, 0, 5):
                assert same(opened.batch(step), through[step])


@pytest.mark.parametrize("workers", [2, 3])
def test_ranks_share_the_batch_of_one(workers: int, recipes: list[TrainConfig]) -> None:
    for config in recipes:
        whole = batches(config, range(6))
        parts = [batches(config, range(6), Group(rank=rank, workers=workers)) for rank in range(workers)]
        for step, expected in enumerate(whole):
            shares = ordering.shares(expected.samples, workers)
            for side in ("real_a", "real_b"):
                tensors = [
                    getattr(part[step], side)[: share.stop - share.start]
                    for part, share in zip(parts, shares, strict=True)
                ]
                assert torch.equal(torch.cat(tensors), getattr(expected, side))


def test_both_halves_of_a_streamed_pair_stay_together(pairs: str) -> None:
    """The store's B is the negative of its A."""
    for batch in batches(small.pix2pix(pairs, "memory://feed/run", streaming="stream"), range(3)):
        assert (batch.real_a + batch.real_b).abs().max() < 1e-6


def test_an_error_in_a_thread_reaches_the_one_who_asks() -> None:
    good = small.picture(0)
    store = small.write_store("memory://feed/bad", image_a=[good] * 3, image_b=[good, good, b"no picture"])
    with open_feed(small.pix2pix(store, "memory://feed/run", streaming="stream", global_batch=1)) as opened:
        assert isinstance(opened._data, stream.Stream)
        lanes = opened._data.lanes
        first = next(step for step in range(3) if laning.global_batch(lanes, step).a == [2])
        for step in range(first):
            opened.batch(step)
        with pytest.raises(loader.TrainingDataError, match=r"image_b of '002' cannot be decoded"):
            opened.batch(first)


def test_nothing_is_beyond_the_last_step(recipes: list[TrainConfig]) -> None:
    with open_feed(recipes[0]) as opened:
        opened.batch(8)
        with pytest.raises(IndexError):
            opened.batch(9)


def test_closing_ends_the_threads(recipes: list[TrainConfig]) -> None:
    before = set(threading.enumerate())
    for config in recipes:
        batches(config, range(2))
    deadline = time.monotonic() + 10
    while {t for t in threading.enumerate() if t.name.startswith("training-")} - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- a storage that counts reads, and one that hangs ------------------------------------------------------------------


class Counting(AbstractFileSystem):
    """Disk, not known to be local, that counts the bytes read from it and hangs while `going` is cleared."""

    protocol = "counting"
    read_bytes = 0
    reads: ClassVar[list[tuple[str, bool]]] = []
    """Path of each read, and whether it was of the end of the file, where the footer is."""
    going = threading.Event()
    lock = threading.Lock()
    disk = LocalFileSystem()

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        return self.disk.ls(path, detail, **options)

    def info(self, path: str, **options: Any) -> Any:
        return self.disk.info(path, **options)

    def _open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        return _CountingFile(path)


class _CountingFile(io.FileIO):
    def readinto(self, buffer: Any) -> int:
        Counting.going.wait()
        count = super().readinto(buffer)
        self._count(count)
        return count

    def read(self, size: int | None = -1) -> bytes:
        Counting.going.wait()
        data = super().read(-1 if size is None else size)
        self._count(len(data))
        return data

    def _count(self, count: int) -> None:
        at_the_end = self.tell() == os.fstat(self.fileno()).st_size
        with Counting.lock:
            Counting.read_bytes += count
            Counting.reads.append((str(self.name), at_the_end))


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[str]:
    fsspec.register_implementation("counting", Counting, clobber=True)
    Counting.read_bytes, Counting.reads = 0, []
    Counting.going.set()
    yield f"counting://{tmp_path}/store"
    Counting.going.set()


def padded(number: int, size: int) -> bytes:
    """Return a small image in a file of `size` bytes: bytes after the end of a PNG are ignored."""
    data = small.encoded(small.picture(number, 8, 8))
    return data + np.random.default_rng(number).bytes(size - len(data))


@pytest.mark.parametrize("objective", ["pix2pix", "cyclegan"])
def test_streaming_reads_each_byte_about_once_an_epoch_over_all_workers(
    objective: str, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for any number of workers, and all together see what one would.

    The tolerance covers one more row group for each border between two workers' lanes.
    """
    monkeypatch.setattr(shard, "ROW_GROUP_BYTES", 1_000_000)
    count, size, local = (250 if objective == "pix2pix" else 490), 100_000, counting.removeprefix("counting://")
    pictures = [padded(i, size) for i in range(count)]
    if objective == "pix2pix":
        small.write_store(local, shards=2, image_a=pictures, image_b=pictures[::-1])
    else:
        small.write_store(f"{local}/a", image=pictures)
        small.write_store(f"{local}/b", image=pictures[::-1])
    make = small.pix2pix if objective == "pix2pix" else small.cyclegan
    steps = range(-(-count // 6))
    config = make(counting, "memory://feed/run", streaming="stream", shuffle_buffer=8, global_batch=6, steps=len(steps))
    whole: list[StepBatch] = []
    for workers in (1, 5):
        opened = [open_feed(config, Group(rank=rank, workers=workers)) for rank in range(workers)]
        Counting.read_bytes = 0
        parts = [[each.batch(step) for step in steps] for each in opened]
        for each in opened:
            each.close()
        print(f"{workers} worker(s) read {Counting.read_bytes / (2 * count * size):.3f} of the set")
        assert Counting.read_bytes < 1.1 * 2 * count * size, workers
        assert Counting.read_bytes > 2 * count * size
        whole = whole or parts[0]
        for step, expected in enumerate(whole):
            shares = ordering.shares(expected.samples, workers)
            found = [part[step].real_a[: s.stop - s.start] for part, s in zip(parts, shares, strict=True)]
            assert torch.equal(torch.cat(found), expected.real_a)


@pytest.mark.parametrize("objective", ["pix2pix", "cyclegan"])
def test_streaming_reads_each_footer_once_whatever_the_number_of_row_groups_and_epochs(
    objective: str, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads read at once; besides footers there is at most one request for each row group and epoch."""
    monkeypatch.setattr(shard, "ROW_GROUP_BYTES", 200_000)
    local = counting.removeprefix("counting://")
    pictures = [padded(i, 50_000) for i in range(60)]
    if objective == "pix2pix":
        small.write_store(local, shards=3, image_a=pictures, image_b=pictures)
    else:
        small.write_store(f"{local}/a", shards=3, image=pictures)
        small.write_store(f"{local}/b", shards=3, image=pictures)
    make = small.pix2pix if objective == "pix2pix" else small.cyclegan
    config = make(counting, "memory://feed/run", streaming="stream", shuffle_buffer=4, global_batch=6, steps=20)
    sources = loader.find_sources(config)
    ranges = [*sources.a.ranges, *(sources.b.ranges if objective == "cyclegan" else [])]
    shards = {r.url for r in ranges}
    assert len(ranges) > 6 * len(shards)
    with open_feed(config) as opened:
        Counting.reads = []
        for step in range(20):
            opened.batch(step)
    footers = [path for path, at_the_end in Counting.reads if at_the_end]
    assert len(footers) == len(set(footers)) == len(shards)
    assert len(ranges) < len(Counting.reads) - len(footers) <= 2 * len(ranges)


def test_resuming_in_an_epoch_reads_what_is_left_of_it_and_the_buffers(counting: str) -> None:
    count, size, local = 240, 100_000, counting.removeprefix("counting://")
    small.write_store(local, image_a=[padded(i, size) for i in range(count)], image_b=[padded(0, 5000)] * count)
    config = small.pix2pix(
        counting, "memory://feed/run", streaming="stream", shuffle_buffer=8, global_batch=2, steps=120
    )
    with open_feed(config) as opened:
        Counting.read_bytes = 0
        for step in range(90, 120):
            opened.batch(step)
        groups = len(loader.find_sources(config).a.ranges)
        # A quarter of the epoch, plus each lane's buffer at step 90 and the row group around it.
        assert Counting.read_bytes < (count / 4 + 2 * 8 + 2 * count / groups) * (size + 5000) * 1.2


def test_a_storage_that_hangs_is_named_and_named_again(counting: str, said: list[str]) -> None:
    small.write_pairs(counting.removeprefix("counting://"), 6)
    config = small.pix2pix(counting, "memory://feed/run", streaming="stream", steps=2)
    with open_feed(config, every_s=0.2) as opened:
        Counting.going.clear()
        threading.Timer(0.9, Counting.going.set).start()
        opened.batch(0)
    stalls = [line for line in said if line.startswith("no images for")]
    assert len(stalls) >= 3
    assert all("reading counting://" in line and "000000.parquet since" in line for line in stalls)


def test_a_feed_of_a_storage_that_hangs_can_be_closed(counting: str) -> None:
    small.write_pairs(counting.removeprefix("counting://"), 6)
    opened = open_feed(small.pix2pix(counting, "memory://feed/run", streaming="stream", steps=2))
    Counting.going.clear()
    opened._prefetcher = feed._Prefetcher(opened._prepared(0), 1)  # as `batch` begins
    began_s = time.monotonic()
    opened.close()
    assert time.monotonic() - began_s < 5
    Counting.going.set()


def test_a_stopped_server_is_named(request: pytest.FixtureRequest, said: list[str]) -> None:
    """The server is a real S3 server that is stopped, not one that refuses, during loading and during streaming."""
    store = small.write_pairs(new_prefix("s3", request), 6)
    request.getfixturevalue("s3_server")
    server = _server_process()
    for way in ("stream", "memory"):
        said.clear()
        config = small.pix2pix(store, "memory://feed/run", streaming=way, steps=2)
        context, reads = small.context(config), ReadMonitor(every_s=0.5)
        os.kill(server, signal.SIGSTOP)
        try:
            threading.Timer(1.7, os.kill, (server, signal.SIGCONT)).start()
            with Feed(feed.open_data(context, reads), context, reads) as opened:
                opened.batch(0)
        finally:
            os.kill(server, signal.SIGCONT)
        stalls = [line for line in said if line.startswith("no images for")]
        assert len(stalls) >= 2
        assert f"reading {store}/000000.parquet" in stalls[0]


def _server_process() -> int:
    """Return the child process that runs the server."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return next(int(pid) for pid in children if b"weed" in Path(f"/proc/{pid}/cmdline").read_bytes())


# --- the loop over a streamed set, and memory that workers share ------------------------------------------------------


@pytest.mark.parametrize("objective", ["pix2pix", "cyclegan"])
def test_a_streamed_run_resumed_at_any_step_ends_with_the_same_bits(objective: str, pairs: str, unpaired: str) -> None:
    def recipe(run: str) -> TrainConfig:
        make, store = (small.pix2pix, pairs) if objective == "pix2pix" else (small.cyclegan, unpaired)
        return make(store, run, streaming="stream", shuffle_buffer=2)

    through = f"memory://feed/{objective}/through"
    small.train_here(recipe(through))
    expected = small.final_state(through)
    for step in range(1, 7):
        resumed = f"memory://feed/{objective}/{step}"
        small.copy_checkpoint(through, step, resumed)
        assert small.train_here(recipe(resumed)).step == 7
        small.assert_same_bits(small.final_state(resumed), expected)


@pytest.mark.long
def test_two_workers_of_a_streamed_run_agree_with_one(tmp_path: Path) -> None:
    pairs = small.write_pairs(str(tmp_path / "pairs"), 7)
    plain: dict[str, Any] = {
        "generator": GeneratorConfig(width=4, depth=5, norm="instance"),
        "discriminator": DiscriminatorConfig(in_channels=6, width=4, layers=2),
    }
    alone, two = (
        small.pix2pix(pairs, str(tmp_path / name), streaming="stream", shuffle_buffer=2, steps=3, **plain)
        for name in ("alone", "two")
    )
    small.train_here(alone)
    small.train_in_processes(2, [two], tmp_path)
    for line, other in zip(*(metrics.read_metrics(config.output) for config in (alone, two)), strict=True):
        assert other["losses"] == pytest.approx(line["losses"], rel=1e-5)


def test_another_streamed_set_under_the_same_run_is_refused(pairs: str) -> None:
    run = "memory://feed/others"
    small.train_here(small.pix2pix(pairs, run, streaming="stream", steps=2))
    others = small.write_pairs("memory://feed/other_pairs", 8)
    outcome = small.train_here(small.pix2pix(others, run, streaming="stream", steps=4))
    assert "not those that this run began with" in outcome.failure


def _load_on_node(rank: int, workers: int, store: str, folder: str, environment: Mapping[str, str]) -> None:
    """Load the set as a rank, record what it sees and where its memory is, and be killed."""
    processes.take_over(environment)
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=workers)
    sources = loader.find_sources(small.pix2pix(store, "memory://feed/run"))
    images = node.load_shared(sources, small.SIZE, Group(rank=rank, workers=workers), 1, reads=ReadMonitor())
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "transdomain" in line]
    torch.distributed.barrier()
    np.savez(
        f"{folder}/{rank}.npz", a=images.a, b=images.b, print=images.fingerprint, inodes=[line[4] for line in mapped]
    )
    torch.distributed.barrier()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("room", ["memory", "disk"])
def test_the_workers_of_a_node_share_one_copy_and_a_kill_leaves_nothing(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small.write_store(
        str(tmp_path / "store"),
        shards=5,
        image_a=[small.picture(i) for i in range(9)],
        image_b=[small.picture(i + 50) for i in range(9)],
    )
    monkeypatch.setattr(loader, "_CHUNK_BYTES", 1)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    before = set(os.listdir("/dev/shm"))
    expected = loader.load_images(loader.find_sources(small.pix2pix(store, "memory://feed/run")), small.SIZE, threads=1)
    target = _load_on_node if room == "memory" else _load_on_a_node_without_memory
    context, environment = processes.context(), dict(os.environ)
    ranks = [context.Process(target=target, args=(rank, 3, store, str(tmp_path), environment)) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(3)]
    for rank in found:
        assert np.array_equal(rank["a"], expected.a)
        assert np.array_equal(rank["b"], expected.b)
        assert str(rank["print"]) == expected.fingerprint
    assert len({inode for rank in found for inode in rank["inodes"].tolist()}) == 1
    assert set(os.listdir("/dev/shm")) == before
    assert os.listdir(tmp_path / "tmp") == []


def _load_on_a_node_without_memory(rank: int, *arguments: Any) -> None:
    node.available_memory = lambda: 1000
    _load_on_node(rank, *arguments)


def test_a_set_larger_than_free_memory_is_kept_on_disk_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(node, "available_memory", lambda: 1000)
    memory = node.allocate(5000)
    node.attach(memory.path, 5000)[:] = 7
    assert node.attach(memory.path, 5000).sum() == 35000
    memory.release()
    assert len(said) == 1
    assert "it is kept in a temporary file" in said[0]


def test_an_image_that_cannot_be_decoded_stops_every_worker(tmp_path: Path) -> None:
    good = small.picture(0)
    store = small.write_store(
        str(tmp_path / "store"), shards=3, image_a=[good, good, b"no picture"], image_b=[good] * 3
    )
    config = small.pix2pix(store, str(tmp_path / "run"))
    with pytest.raises(Exception, match=r"image_a of '002' cannot be decoded"):
        small.train_in_processes(2, [config], tmp_path)


def test_the_fingerprint_of_a_streamed_set_is_that_of_its_listing(tmp_path: Path) -> None:
    pictures = [small.picture(i) for i in range(4)]
    store = small.write_store(str(tmp_path / "store"), image_a=pictures, image_b=pictures)
    config = small.pix2pix(store, "memory://feed/run")
    prints = [stream.listing_fingerprint(loader.find_sources(config)) for _ in range(2)]
    small.write_store(store, image_a=pictures, image_b=[255 - p for p in pictures])
    prints.append(stream.listing_fingerprint(loader.find_sources(config)))
    assert prints[0] == prints[1] != prints[2]


# --- images that cannot be decoded in the middle of a run -------------------------------------------------------------


def one_bad(url: str, *, shards: int = 1) -> str:
    """Write seven pairs, of which image_b of '004' is truncated."""
    good = small.encoded(small.picture(0))
    bad = small.encoded(small.picture(4))[:200]
    return small.write_store(url, shards=shards, image_a=[good] * 7, image_b=[*[good] * 4, bad, *[good] * 2])


def first_use(config: TrainConfig, row: int) -> tuple[int, int]:
    """Return the first step that needs this row of a streamed paired store, and its position in the global batch."""
    lanes = stream.Stream(small.context(config), ReadMonitor()).lanes
    for step in itertools.count():
        if row in (rows := laning.global_batch(lanes, step).a.tolist()):
            return step, rows.index(row)
    raise AssertionError


UNDECODABLE = r"\d{6}\.parquet: image_b of '004' cannot be decoded \(.*\); pack the images anew with jobs\.pack"


@pytest.mark.parametrize("seed", range(4))
def test_an_image_that_turns_out_bad_ends_the_run_before_its_step_with_a_checkpoint(seed: int) -> None:
    store = one_bad("memory://feed/turns_bad")
    config = small.pix2pix(
        store, f"memory://feed/turns_bad_{seed}", streaming="stream", seed=seed, global_batch=1, checkpoint_every=100
    )
    first, _ = first_use(config, 4)
    for _ in range(2):  # and the same command ends in the same way
        outcome = small.train_here(config)
        assert re.search(UNDECODABLE, outcome.failure)
        assert (outcome.step, outcome.stopped) == (first, False)
        assert checkpoint.steps(config.output) == ([first] if first else [])
        assert (f"with a checkpoint of step {first}" in outcome.failure) is (first > 0)


def _train_on_rank(rank: int, workers: int, configs: list[TrainConfig], folder: str) -> None:
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=workers)
    for config in configs:
        task = loop.TrainingTask(config=config, sources=loader.find_sources(config), threads=1)
        outcome = loop.train(task, Group(rank=rank, workers=workers), CPU)
        name = config.output.rsplit("/", 1)[-1]
        Path(folder, f"{name}-{rank}.json").write_text(json.dumps(dataclasses.asdict(outcome)))
    torch.distributed.destroy_process_group()


@pytest.mark.long
def test_all_workers_end_before_the_step_that_one_of_them_cannot_take(tmp_path: Path) -> None:
    """This holds for any rank and any step; what was trained before has the bits of a run without the image."""
    store = one_bad(str(tmp_path / "store"), shards=7)
    good = small.write_store(
        str(tmp_path / "good"), shards=7, **{f"image_{side}": [small.encoded(small.picture(0))] * 7 for side in "ab"}
    )
    options: dict[str, Any] = {"streaming": "stream", "shuffle_buffer": 2, "checkpoint_every": 100, "global_batch": 2}
    options |= {
        "generator": GeneratorConfig(width=4, depth=5, norm="instance"),
        "discriminator": DiscriminatorConfig(in_channels=6, width=4, layers=2),
    }
    configs = [small.pix2pix(store, str(tmp_path / f"run{seed}"), seed=seed, **options) for seed in range(6)]
    firsts, ranks = zip(*(first_use(config, 4) for config in configs), strict=True)
    assert set(ranks) == {0, 1}
    assert {0, 1} < set(firsts)  # before the first step, after it, and later
    through = [
        small.pix2pix(good, str(tmp_path / f"good{seed}"), seed=seed, **options | {"steps": first})
        for seed, first in enumerate(firsts)
        if first > 1
    ]
    processes.run_ranks(_train_on_rank, (2, [*configs, *through], str(tmp_path)), 2)
    for config, first in zip(configs, firsts, strict=True):
        name = config.output.rsplit("/", 1)[-1]
        outcomes = [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in range(2)]
        assert outcomes[0] == outcomes[1]
        assert re.search(UNDECODABLE, outcomes[0]["failure"])
        reached = first if first > 1 else 0  # before the first step, the first two are checked
        assert outcomes[0]["step"] == reached
        assert checkpoint.steps(config.output) == ([reached] if reached else [])
    for config in through:
        small.assert_same_bits(
            small.final_state(config.output.replace("good", "run")), small.final_state(config.output)
        )


def test_a_store_that_is_replaced_while_it_is_streamed_ends_the_run_at_once(tmp_path: Path) -> None:
    pictures = [small.picture(i) for i in range(6)]
    store = small.write_store(str(tmp_path / "store"), shards=6, image_a=pictures, image_b=pictures)
    config = small.pix2pix(
        store, str(tmp_path / "run"), streaming="stream", shuffle_buffer=1, global_batch=1, steps=60,
        checkpoint_every=100,
    )  # fmt: skip
    steps = itertools.count(1)

    def replace_in_the_third() -> bool:
        if next(steps) == 3:
            small.write_store(store, shards=6, image_a=pictures[::-1], image_b=pictures)
        return False

    outcome = small.train_here(config, stop_asked=replace_in_the_third)
    assert 3 <= outcome.step < 60
    assert re.search(r"0000\d\d\.parquet has changed since it was planned", outcome.failure)
    assert f"with a checkpoint of step {outcome.step}" in outcome.failure
    assert checkpoint.steps(config.output) == [outcome.step]


def test_a_row_group_that_cannot_be_read_is_named_with_its_rows(tmp_path: Path) -> None:
    pictures = [small.picture(i) for i in range(4)]
    store = small.write_store(str(tmp_path / "store"), shards=2, image_a=pictures, image_b=pictures)
    shard = tmp_path / "store" / "000001.parquet"
    found, data = shard.stat(), bytearray(shard.read_bytes())
    data[4:2000] = bytes(1996)
    shard.write_bytes(data)
    os.utime(shard, ns=(found.st_atime_ns, found.st_mtime_ns))
    config = small.pix2pix(store, str(tmp_path / "run"), streaming="stream", shuffle_buffer=1, global_batch=1)
    outcome = small.train_here(config)
    assert "000001.parquet: rows 0 to 2 cannot be read (" in outcome.failure
    assert "restore the shard, or pack the images anew" in outcome.failure


def test_a_storage_that_fails_is_no_bad_image(monkeypatch: pytest.MonkeyPatch, pairs: str) -> None:
    """The storage may recover: its error reaches Ray Train, which restarts from the last checkpoint."""

    def fail(*_: object) -> None:
        raise StorageError("s3://bucket/shard: timed out (tried 6 times)")

    monkeypatch.setattr(stream, "read_rows", fail)
    with pytest.raises(StorageError, match="tried 6 times"):
        small.train_here(small.pix2pix(pairs, "memory://feed/fails", streaming="stream"))
