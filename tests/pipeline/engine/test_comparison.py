"""Comparison of a listing with a plan: the same as by a dictionary, whatever the hashes of names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine import comparison
from pipeline.engine.comparison import compare
from pipeline.storage.entries import Columns, Entries


class Planned(NamedTuple):
    source: str
    shard: str
    url: str
    version: str
    size: int


shard_names = st.sampled_from([f"{i}" for i in range(12)])
listings = st.dictionaries(shard_names, st.sampled_from("vw"), max_size=12)
plans = st.lists(
    st.builds(
        lambda source, shard, at, version, size: Planned(source, shard, f"{at}/{shard}", version, size),
        st.sampled_from(["a", "b", "c"]), shard_names, st.sampled_from(["here/a", "there"]), st.sampled_from("vw"),
        st.integers(0, 9),
    ),
    max_size=30,
)  # fmt: skip


def listed(base: str, versions: dict[str, str]) -> Entries:
    columns = Columns(base)
    for name, version in versions.items():
        columns.add(name, 1, version)
    return columns.entries()


@pytest.mark.parametrize("buckets", [1, 3, 2**61])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listings, listings, plans, st.integers(1, 8))
def test_it_is_that_by_a_dictionary(
    monkeypatch: pytest.MonkeyPatch,
    buckets: int,
    of_a: dict[str, str],
    of_b: dict[str, str],
    planned: list[Planned],
    batch: int,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            comparison, "_hashes", lambda names: np.array([hash(n) % buckets for n in names.to_pylist()], np.int64)
        )
        sources = {"a": listed("here/a", of_a), "b": listed("here/b", of_b)}
        tables = [
            pa.table([list(column) for column in zip(*planned[i : i + batch], strict=True)], list(Planned._fields))
            for i in range(0, len(planned), batch)
        ]
        found, gone = compare(sources, tables)
    for source, shards in sources.items():
        names = [entry.name for entry in shards]
        mine = [piece for piece in planned if piece.source == source and piece.shard in names]
        version = {entry.url: entry.version for entry in shards}
        moved = [piece for piece in mine if piece.url not in version]
        result = found[source]
        assert {names[i] for i in result.fresh} == set(names) - {piece.shard for piece in mine}
        assert {names[i] for i in result.changed} == {
            piece.shard for piece in mine if version.get(piece.url, piece.version) != piece.version
        }
        assert {names[i]: size for i, size in zip(result.elsewhere, result.planned_sizes, strict=True)} == {
            piece.shard: sum(other.size for other in moved if other.shard == piece.shard) for piece in moved
        }
    known = {"a": of_a, "b": of_b}
    assert gone == list(dict.fromkeys(p.shard for p in planned if p.shard not in known.get(p.source, {}))) or set(
        gone
    ) == {p.shard for p in planned if p.shard not in known.get(p.source, {})}


def test_only_some_that_are_gone_are_named() -> None:
    rows = [[""] * 3000, [f"{i}" for i in range(3000)], [f"u/{i}" for i in range(3000)], ["v"] * 3000, [1] * 3000]
    _, gone = compare({"": listed("u", {})}, [pa.table(rows, list(Planned._fields))])
    assert len(gone) == comparison.MOST_GONE
