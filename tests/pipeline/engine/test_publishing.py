"""Pure parts of the engine, and the adoption of what was there first."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.engine.completion.budget import Budget, exceeded
from pipeline.engine.publishing.commit import ConflictError, Sink, publish
from pipeline.engine.records.account import Account, Batch, Quarantined, decode_account, encode_account
from pipeline.engine.records.layout import Output
from pipeline.engine.records.units import Unit
from pipeline.recipe import fingerprint
from pipeline.stores.forms.folder import Folder
from pipeline.stores.forms.parquet import Parquet
from pipeline.stores.forms.registry import writable_form
from pipeline.stores.forms.shard import encode_shard
from pipeline.stores.keys import duplicate_keys
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import image_array

texts = st.text(max_size=8)
quarantined = st.lists(st.builds(Quarantined, texts, texts, texts, texts, texts), max_size=4).map(tuple)


@given(quarantined, st.integers(0, 50), st.integers(0, 50))
def test_an_account_survives_its_text(rows: tuple[Quarantined, ...], ok: int, skipped: int) -> None:
    account = Account("000000-000000", "f", ok + skipped + len(rows), ok, skipped, rows)
    assert decode_account(encode_account(account)) == account


def test_an_account_that_loses_a_row_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="does not add up"):
        Account("000000-000000", "f", 5, 3, 1, ())


@given(st.lists(st.lists(st.text("abc", max_size=3), max_size=20), max_size=6))
def test_every_key_that_occurs_twice_is_found(batches: list[list[str]]) -> None:
    counted = Counter(key for batch in batches for key in batch)
    assert duplicate_keys(lambda: batches, most=1000) == sorted(key for key, times in counted.items() if times > 1)


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


@pytest.mark.parametrize(
    ("inputs", "bad", "over"),
    [(12, 10, False), (12, 11, True), (1000, 10, False), (1000, 11, True), (5000, 50, False)],
)
def test_the_share_is_one_of_a_thousand_rows_at_least(inputs: int, bad: int, over: bool) -> None:
    assert exceeded(Budget(), inputs=inputs, quarantined=bad) is over


def test_an_output_without_a_good_row_is_over_any_budget_but_all() -> None:
    assert exceeded(Budget(), inputs=3, quarantined=3, final=True)
    assert not exceeded(Budget(), inputs=3, quarantined=3)
    assert not exceeded(Budget(share=1), inputs=3, quarantined=3, final=True)
    assert not exceeded(Budget(), inputs=0, quarantined=0, final=True)


def test_the_count_is_judged_at_once() -> None:
    assert exceeded(Budget(count=2), inputs=3, quarantined=3)


def batch(picture: bytes, *, good: bool = True) -> Batch:
    unit = Unit("000000-000000", (Range("a", "u/a", "v", 0, 2, 9),))
    keys = ["a", "b"] if good else ["a"]
    rows = pa.table({"key": keys, "image": image_array([picture] * len(keys), keys)})
    return Batch(unit, rows, () if good else (Quarantined("b", "a", "decode", "corrupt", "…"),))


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_who_comes_second_adopts_the_first_ones_account(any_prefix: str, form: str) -> None:
    output, sink = Output(any_prefix), Sink(writable_form(form), "png" if form == "folder" else "")
    first = publish(output, sink, batch(b"picture", good=False), "f", 0.0)
    before = {e.name: e.version for e in storage.list_files(any_prefix)}
    # the second attempt sees two good rows where the first one saw a good and a bad one
    assert publish(output, sink, batch(b"picture"), "f", 1.0) == first
    assert {e.name: e.version for e in storage.list_files(any_prefix)} == before


def test_a_commit_lost_in_a_crash_is_made_from_the_account(any_prefix: str) -> None:
    output = Output(any_prefix)
    account = publish(output, Sink(), batch(b"picture", good=False), "f", 0.0)
    storage.delete(output.commit(account.unit))
    storage.delete(output.quarantine(account.unit))
    assert publish(output, Sink(), batch(b"other"), "f", 0.0) == account
    assert storage.exists(output.commit(account.unit))
    assert storage.exists(output.quarantine(account.unit))


def test_an_object_of_another_recipe_is_not_adopted(any_prefix: str) -> None:
    publish(Output(any_prefix), Sink(), batch(b"picture"), "f", 0.0)
    with pytest.raises(ConflictError, match="another recipe"):
        publish(Output(any_prefix), Sink(), batch(b"picture"), "g", 0.0)


def test_a_strangers_object_is_not_adopted(any_prefix: str) -> None:
    output = Output(any_prefix)
    storage.create(output.data(batch(b"x").unit, Parquet()), encode_shard(batch(b"x").rows, {}))
    with pytest.raises(ConflictError, match="taken by a file that no job wrote"):
        publish(output, Sink(), batch(b"picture"), "f", 0.0)


def test_a_picture_that_comes_out_differently_fails_the_unit_of_a_folder(any_prefix: str) -> None:
    output, sink = Output(any_prefix), Sink(Folder(), "png")
    publish(output, sink, batch(b"picture"), "f", 0.0)
    with pytest.raises(ConflictError, match="came out differently"):
        publish(output, sink, batch(b"other"), "f", 0.0)


def test_a_key_cannot_leave_the_output(any_prefix: str) -> None:
    unit = Unit("000000-000000", (Range("a", "u/a", "v", 0, 1, 9),))
    rows = pa.table({"key": ["../../escaped"], "image": image_array([b"x"], ["x"])})
    with pytest.raises(ValueError, match="is not a path below"):
        publish(Output(any_prefix), Sink(Folder(), "png"), Batch(unit, rows), "f", 0.0)
    assert not storage.list_files(any_prefix)
