"""A unit that is streamed comes out as one that is held whole, within its bound."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import images, storage
from pipeline.engine.executors import local
from pipeline.engine.records.account import Batch, Made, Quarantined, batches_of
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit
from pipeline.engine.run import run
from pipeline.stores.forms import FormName
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation.options import SizePolicy
from pipeline.translation.streaming import PARTS, parts_of, streamed
from tests import corpus

UNIT = Unit("000000-000000", ())


def batch_of(sizes: Sequence[int]) -> Batch:
    return Batch(UNIT, pa.table({"size": pa.array(sizes, pa.int64()), "number": pa.array(range(len(sizes)))}))


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 60))
def test_parts_are_all_rows_in_order_and_no_larger_than_asked_for(sizes: list[int], most: int) -> None:
    parts = list(parts_of(batch_of(sizes), sizes, most))
    assert [row for part in parts for row in part.batch.rows["size"].to_pylist()] == sizes
    assert all(part.size == sum(part.batch.rows["size"].to_pylist()) for part in parts)
    assert all(part.size <= most or len(part.batch.rows) == 1 for part in parts)
    for part, following in itertools.pairwise(parts):  # none could take the next row as well
        assert part.size + following.batch.rows["size"][0].as_py() > most


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 3), st.integers(1, 9))
def test_no_more_is_held_than_the_bound_or_one_row(sizes: list[int], threads: int, translations: int) -> None:
    most, held, peak, lock = 400, 0, 0, threading.Lock()
    left = Counter[int]()
    translated = list[int]()

    def take(change: int) -> None:
        nonlocal held, peak
        with lock:
            held += change
            peak = max(peak, held)

    def decode(part: Batch) -> Batch:
        take(sum(part.rows["size"].to_pylist()))
        return part

    def translate(part: Batch) -> Made:
        take(translations * sum(part.rows["size"].to_pylist()))
        translated.extend(part.rows["number"].to_pylist())
        units = [UNIT._replace(id=f"000000-{i:06d}") for i in range(translations)]
        return [replace(part, unit=unit) for unit in units] if translations > 1 else part

    def encode(part: Batch) -> Batch:
        first = part.rows["number"][0].as_py()
        left[first] += 1  # a part's decoded images go with its last translation
        copies = 1 + (left[first] == translations)
        take(-copies * sum(part.rows["size"].to_pylist()))
        return replace(part, quarantined=(Quarantined(str(first), "s", "encode", "failed", ""),))

    before = Quarantined("before", "s", "read", "no key", "")
    whole = replace(batch_of(sizes), quarantined=(before,), skipped=7)
    found = streamed(whole, sizes, decode, translate, encode, most=most, threads=threads, translations=translations)
    assert peak <= max(most, (1 + translations) * max(sizes))
    assert held == 0
    parts = len(list(parts_of(whole, sizes, most // (PARTS * (1 + translations) // 2))))
    for i, made in enumerate(batches_of(found)):
        assert translated == made.rows["number"].to_pylist() == list(range(len(sizes)))
        assert (made.unit.id, made.skipped, made.quarantined[0]) == (f"000000-{i:06d}", 7, before)
        assert len(made.quarantined) == 1 + parts
    assert len(batches_of(found)) == translations


@pytest.mark.parametrize("failing", ["decode", "translate", "encode"])
def test_an_error_of_a_step_is_the_units(failing: str) -> None:
    def step(name: str, part: Batch) -> Batch:
        if name == failing and 5 in part.rows["number"].to_pylist():
            raise MemoryError(name)
        return part

    sizes = [10] * 30
    with pytest.raises(MemoryError, match=failing):
        streamed(
            batch_of(sizes),
            sizes,
            *(lambda part, name=name: step(name, part) for name in ("decode", "translate", "encode")),  # type: ignore[misc]
            most=100,
            threads=2,
        )


@pytest.mark.parametrize("form", ["parquet", "folder"])
@pytest.mark.parametrize("size", ["native", "original", "training"])
def test_an_output_does_not_depend_on_how_much_is_held_at_once(
    form: FormName, size: SizePolicy, tmp_path: Path
) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 9, height=40, width=28)
    # A large one among them, one that its header overstates, and one that no file of the codec holds.
    large = images.encode(corpus.picture(1, 300, 200), images.Encoding(codec="png"))
    storage.replace(storage.join(source, "large.png"), large)
    overstated = large[:16] + (60_000).to_bytes(4, "big") + large[20:]
    storage.replace(storage.join(source, "overstated.png"), overstated)
    long = images.encode(np.zeros((1, 16_400, 3), np.uint8), images.Encoding(codec="png"))
    storage.replace(storage.join(source, "long.png"), long)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    outputs = []
    for decoded_mb in (512, 0.05, 1e-6):
        config = TranslateConfig(
            input=source,
            output=str(tmp_path / f"out-{decoded_mb}"),
            bundle=(bundle,),
            size=size,
            form=form,
            encoding=images.Encoding(codec="webp"),
            limits=Limits(rows=16, decoded_mb=decoded_mb),
            local=True,
        )
        outputs.append(run_whole(config))
    assert outputs[0] == outputs[1] == outputs[2]


def run_whole(config: TranslateConfig) -> dict[str, object]:
    from pipeline.engine.completion.budget import Budget

    run([translate_job(config)], local.execute, Budget(share=1.0))
    found = dict(corpus.contents(config.output))
    assert found
    return found
