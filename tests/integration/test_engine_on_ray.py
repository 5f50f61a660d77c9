"""Engine on a real local Ray: it runs as it should, gives what the plain loop gives, and refuses what it must."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data

from jobs import pack, translate, verify
from pipeline import images
from pipeline.cluster import connection, memory
from pipeline.engine.completion.budget import Budget
from pipeline.engine.executors import blocks, ray_data
from pipeline.engine.launch import on_ray_cluster
from pipeline.engine.publishing.apart import SIDE
from pipeline.engine.publishing.steps import InFlight, Receipt, Stage, Task
from pipeline.engine.records.account import Batch, Filtered, Quarantined
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit
from pipeline.engine.run import run
from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import image_array
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation.options import Resources
from tests import corpus


def test_a_unit_survives_its_block() -> None:
    unit = Unit("000000-000007", (Range("a.png", "u/a.png", "v", 0, 1, 5), Range("b.png", "u/b.png", "w", 0, 1, 6)))
    rows, pixels = pa.table({"key": ["a"], "image": pa.array([b"123"], pa.large_binary())}), pa.py_buffer(b"456")
    quarantined = (Quarantined("b", "b.png", "decode", "empty", "…"),)
    filtered = (Filtered("c", "c.png", (("cycle_l1", 0.125), ("realism", None))),)
    batch = Batch(unit, rows, quarantined, 1, pixels, filtered)
    beside = Unit("000000-000019", unit.ranges, "translator=rain")
    for batches in (
        (batch,),
        (replace(batch, beside=(beside,)),),
        (batch, Batch(beside, rows), replace(batch, skipped=4)),
    ):
        item = InFlight(Task(2, unit.id), batches, 12.5)
        back = blocks.from_block(blocks.to_block(item))
        assert isinstance(back, InFlight)
        assert back == item


def test_how_rows_come_survives_a_block() -> None:
    reading = RowSchema(pa.schema([("label", pa.int64())]), "by_shard")
    ranges = tuple(Range(name, f"u/{name}", "v", 0, 1, 5, "", reading) for name in ("a", "b"))
    batch = Batch(Unit("000000-000000", ranges), pa.table({"label": [1]}))
    back = blocks.from_block(blocks.to_block(InFlight(Task(0, batch.unit.id), (batch,), 0.0)))
    assert isinstance(back, InFlight)
    assert [piece.row_schema for piece in back.batches[0].unit.ranges] == [reading] * 2


def test_what_rows_say_of_their_columns_survives_their_block() -> None:
    field = pa.field("label", pa.int64(), metadata={"unit": "class"})
    schema = pa.schema([field], metadata={"huggingface": "{}"})
    batch = Batch(Unit("000000-000000", (Range("a", "u/a", "v", 0, 1, 5),)), schema.empty_table())
    back = blocks.from_block(blocks.to_block(InFlight(Task(0, batch.unit.id), (batch,), 0.0)))
    assert isinstance(back, InFlight)
    assert back.batches[0].rows.schema.equals(schema, check_metadata=True)


def test_a_unit_without_rows_and_a_receipt_survive_their_blocks() -> None:
    unit = Unit("000000-000000", (Range("a.png", "u/a.png", "v", 0, 1, 5),))
    empty = InFlight(Task(0, unit.id), (Batch(unit, pa.table({"key": pa.array([], pa.string())}), (), 1),), 0.0)
    assert blocks.from_block(blocks.to_block(empty)) == empty
    receipt = Receipt(Task(1, unit.id), "failed", error="why")
    assert blocks.from_block(blocks.to_block(receipt)) == receipt


@pytest.fixture(scope="module")
def ray_with_a_gpu() -> Iterator[None]:
    """Keep one Ray for the tests of this module. It is told of a GPU, which nobody has who does not ask for it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')
        before = environment()
        with connection.connect():
            yield
        assert environment() == before


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


class Corpus(NamedTuple):
    """Small input, a bundle, the options of all runs over them, and what the plain loop gives."""

    source: str
    bundle: str
    options: list[str]
    expected: Mapping[str, Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("small")
    source, bundle = corpus.write_folder(str(folder / "in"), 9), corpus.write_bundle(str(folder / "bundle"))
    options = ["--input", source, "--bundle", bundle, "--limits.rows", "4", "--resources.threads", "1"]
    assert translate.main([*options, "--output", str(folder / "loop"), "--local"]) == 0
    return Corpus(source, bundle, options, corpus.contents(str(folder / "loop")))


def test_ray_gives_what_the_loop_gives(ray_with_a_gpu: None, small: Corpus, tmp_path: Path) -> None:
    """A run that goes on from a part of it gives the same."""
    command, output = [*small.options, "--output", str(tmp_path / "ray")], tmp_path / "ray"
    assert translate.main(command) == 0
    assert corpus.contents(str(output)) == small.expected
    (output / "_SUCCESS").unlink()
    (output / "_transdomain/commits/000000-000000.json").unlink()
    (output / "data/000000-000001.parquet").unlink()
    (output / "_transdomain/commits/000000-000001.json").unlink()
    assert translate.main(command) == 0
    assert corpus.contents(str(output)) == small.expected


@pytest.mark.long
def test_ray_reads_shards_that_differ_and_its_own_tensors_as_the_loop_does(
    ray_with_a_gpu: None, small: Corpus, tmp_path: Path
) -> None:
    """Types that Ray registers in its processes are plain lists in those of the loop."""
    pixels = np.stack([corpus.picture(i) for i in range(4)])
    stored = pa.LargeListArray.from_arrays(
        pa.array(range(0, pixels.size + 1, pixels[0].size)), pa.array(pixels.ravel())
    )
    said = {"ARROW:extension:name": "ray.data.arrow_tensor_v2", "ARROW:extension:metadata": "[24, 24, 3]"}
    (tmp_path / "in").mkdir()
    rows = [{"image": pixels[i], "label": i} for i in (2, 3)]
    ray.data.from_items(rows, override_num_blocks=1).write_parquet(str(tmp_path / "in/1"))
    fields = [pa.field("image", stored.type, metadata=said), ("label", pa.int8())]
    plain = pa.Table.from_arrays([stored.slice(0, 2), pa.array([0, 1], pa.int8())], schema=pa.schema(fields))
    pq.write_table(plain, tmp_path / "in/0.parquet")
    options = ["--input", str(tmp_path / "in"), "--bundle", small.bundle, "--limits.rows", "2", "--keep_source"]
    options += ["--resources.threads", "1"]
    assert translate.main([*options, "--output", str(tmp_path / "ray")]) == 0
    assert translate.main([*options, "--output", str(tmp_path / "loop"), "--local"]) == 0
    assert corpus.contents(str(tmp_path / "ray")) == corpus.contents(str(tmp_path / "loop"))
    rows = corpus.rows(str(tmp_path / "ray"))
    assert [row["label"] for row in rows] == [0, 1, 2, 3]
    assert np.array_equal([images.decode(row["source_image"]["bytes"]).pixels for row in rows], pixels)


@pytest.mark.long
def test_many_units_go_through_stages_that_share_no_process(
    ray_with_a_gpu: None, small: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units enter as they do where there are more than a few; what shards say of their labels is kept."""
    monkeypatch.setattr(ray_data, "_FEW_UNITS", 0)
    built, original = list[Any](), ray_data.build
    monkeypatch.setattr(ray_data, "build", lambda *given, **more: built.append(original(*given, **more)) or built[0])
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    pictures = [images.encode(corpus.picture(i), images.Encoding(codec="png")) for i in range(3)]
    table = pa.table({"label": [0, 1, 1], "image": image_array(pictures, ["a", "b", "c"])})
    pq.write_table(with_features(table, features), tmp_path / "labelled.parquet")
    # Stages that ask for the same are fused by Ray, where nothing else tells them apart.
    alike = ["--resources.decode_cpus", "0.5", "--resources.actor_cpus", "0.5", "--resources.encode_cpus", "0.5"]
    options = ["--input", str(tmp_path / "labelled.parquet"), "--bundle", small.bundle, "--limits.rows", "1"]
    options += ["--resources.threads", "1", *alike]
    assert translate.main([*options, "--output", str(tmp_path / "many")]) == 0
    assert translate.main([*options, "--output", str(tmp_path / "loop"), "--local"]) == 0
    assert corpus.contents(str(tmp_path / "many")) == corpus.contents(str(tmp_path / "loop"))
    assert features_of(pq.read_schema(tmp_path / "many/data/000000-000000.parquet"))["label"] == features["label"]
    stats = built[0].stats()
    for name in ("MapBatches(decode)", "MapBatches(translate)", "MapBatches(encode)"):
        assert name in stats
    assert "->MapBatches(translate)" not in stats
    assert "MapBatches(translate)->" not in stats


@pytest.mark.long
def test_a_model_beside_a_gpu_gets_whole_units(ray_with_a_gpu: None, small: Corpus, tmp_path: Path) -> None:
    """The machine says that it has a GPU; Ray places the actor there, and the model computes on the CPU."""
    assert ray.cluster_resources()["GPU"] == 1
    there = ["--device", "cpu", "--resources.actor_gpus", "1"]
    assert translate.main([*small.options, *there, "--output", str(tmp_path / "ray")]) == 0
    assert corpus.contents(str(tmp_path / "ray")) == small.expected


def test_stages_that_find_no_place_are_refused(
    ray_with_a_gpu: None, small: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    greedy = [*small.options, "--output", str(tmp_path / "greedy"), "--resources.actor_cpus", "64"]
    assert translate.main(greedy) == 2
    assert "stage translate (64 CPU, 1.5 GB of memory) cannot be placed" in capsys.readouterr().err


def test_pages_of_the_object_store_are_let_go(ray_with_a_gpu: None) -> None:
    ray.get(ray.put(np.ones(50_000_000, np.uint8)))
    touched = shared_bytes()
    memory.let_go_of_store()
    assert touched - shared_bytes() > 45e6


def shared_bytes() -> int:
    """Return the bytes of shared memory that this process has touched."""
    found = re.search(r"RssShmem:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def is_good_picture(value: Unit | Batch) -> bool:
    """Return True for the one that comes before a row that is taken apart."""
    if isinstance(value, Unit) or len(value.rows) > 1:
        return False
    if value.pixels is not None:
        return value.pixels.size == 3 * SIDE**2
    data = value.rows["image"][0].as_py()["bytes"]
    return header_size(data) == (SIDE, 2 * SIDE)


def header_size(data: bytes) -> tuple[int, int] | None:
    with contextlib.suppress(images.BadImage):
        height, width = images.decode(data).pixels.shape[:2]
        return height, width
    return None


@dataclass(frozen=True)
class Harmful:
    """Stage that does to its process what it is asked to do for one key."""

    stage: Callable[[Any], Batch]
    key: str
    harm: Callable[[], Any]

    def __call__(self, value: Unit | Batch) -> Batch:
        keys = [r.shard for r in value.ranges] if isinstance(value, Unit) else value.rows["key"].to_pylist()
        if self.key in keys and not is_good_picture(value):
            self.harm()
        return self.stage(value)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_rows_that_end_or_hang_their_process_cost_a_row(tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 12)
    config = TranslateConfig(
        input=source,
        output=str(tmp_path / "out"),
        bundle=(corpus.write_bundle(str(tmp_path / "bundle")),),
        limits=Limits(rows=5),
        resources=Resources(threads=1),
    )
    job = translate_job(config)
    good = [r.shard for r in job.sources[""].ranges if r.shard not in corpus.BROKEN]
    dead, hung = good[1], good[9]
    decode, model, encode = job.workloads[0].stages
    decode = harmful(decode, dead, lambda: os.kill(os.getpid(), signal.SIGSEGV))
    model = replace(harmful(model, hung, lambda: time.sleep(3600)), stall_s=10.0)
    work = replace(job.workloads[0], stages=(decode, model, encode))
    with connection.connect():
        run([replace(job, workloads=[work])], on_ray_cluster, Budget(share=1.0))
    assert verify.main(["--input", config.output]) == 0
    assert {row["source_key"] for row in corpus.rows(config.output)} == set(good) - {dead, hung}
    quarantine = pq.read_table(str(tmp_path / "out/_quarantine")).to_pylist()
    fatal = {row["key"]: (row["stage"], row["message"]) for row in quarantine if row["reason"] == "fatal"}
    assert fatal.keys() == {dead, hung}
    assert fatal[dead] == ("decode", "ends its process (SIGSEGV), twice, where a good image passes before and after it")
    assert fatal[hung] == ("translate", "has no end within 10 s, twice, where a good image passes before and after it")


def harmful(stage: Stage, key: str, harm: Callable[[], Any]) -> Stage:
    """Return a stage that does harm wherever it meets a key, also where its rows are taken apart."""
    apart, make = stage.apart, stage.make
    assert apart
    within = apart.make
    return replace(
        stage,
        make=lambda: Harmful(make(), key, harm),
        apart=replace(apart, make=lambda: Harmful(within(), key, harm)),
    )


@pytest.mark.long
def test_places_that_another_holds_are_told_and_taken_when_they_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_data, "_IDLE_S", 4.0)
    arguments = ["--input", corpus.write_folder(str(tmp_path / "in"), 3), "--output", str(tmp_path / "out")]
    with connection.connect():
        cpus = int(sum(node["CPU"] for node in connection.nodes()))
        other: Any = ray.remote(Other).options(num_cpus=cpus).remote()
        ray.get(other.hold.remote())
        line = r"waiting for a place for stage pack \(1 CPU\): of \d+ CPU on 1 node\(s\) nothing is free now"
        thread = threading.Thread(target=lambda: (wait_for_line(caplog, line), ray.kill(other)))
        thread.start()
        assert pack.main([*arguments, "--budget.share", "1"]) == 0
        thread.join()
    assert re.search(line, caplog.text)


class Other:
    def hold(self) -> None:
        """Do nothing: an answer shows that the actor is there."""


def wait_for_line(caplog: pytest.LogCaptureFixture, line: str) -> None:
    deadline = time.monotonic() + 60
    while not re.search(line, caplog.text) and time.monotonic() < deadline:
        time.sleep(0.2)


def common_of(config: TranslateConfig) -> list[str]:
    return [
        "--input",
        config.input,
        "--output",
        config.output,
        "--bundle",
        *config.bundle,
        "--limits.rows",
        "5",
        "--local",
    ]


def test_memory_is_refused_where_workers_are_other_processes(capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus.write_folder("memory://ray/in", 1)
    bundle = corpus.write_bundle("memory://ray/bundle")
    assert translate.main(["--input", source, "--bundle", bundle, "--output", "memory://ray/out"]) == 2
    assert "memory:// is seen by one process alone" in capsys.readouterr().err
