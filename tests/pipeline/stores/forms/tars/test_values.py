from __future__ import annotations

import decimal
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stores.forms.tars.values import from_json, to_json

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
DECIMALS = st.integers(-(10**12), 10**12).map(lambda n: decimal.Decimal(n).scaleb(-2))
WHOLE = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}
SIMPLE: list[tuple[pa.DataType, st.SearchStrategy]] = [
    *[(kind, st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)) for kind, bits in WHOLE.items()],
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXT),
    (pa.large_string(), TEXT),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.float16(), st.floats(width=16)),
    (pa.binary(), st.binary(max_size=8)),
    (pa.large_binary(), st.binary(max_size=8)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.decimal128(20, 2), DECIMALS),
    (pa.date32(), st.integers(-(10**6), 10**6)),
    (pa.time64("ns"), st.integers(0, 86_399_999_999_999)),
    (pa.timestamp("ns", "Europe/Rome"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("s"), st.integers(-(2**40), 2**40)),
    (pa.duration("us"), st.integers(-(2**62), 2**62)),
]


@st.composite
def columns(draw: st.DrawFn, depth: int = 2) -> tuple[pa.DataType, st.SearchStrategy]:
    """Return a type, and the values that it takes."""
    shape = draw(st.sampled_from(["simple", "list", "fixed", "struct", "map"])) if depth else "simple"
    if shape == "simple":
        kind, values = draw(st.sampled_from(SIMPLE))
        return kind, st.none() | values
    kind, values = draw(columns(depth - 1))
    if shape == "list":
        return pa.list_(kind), st.none() | st.lists(values, max_size=3)
    if shape == "fixed":
        return pa.list_(kind, 2), st.none() | st.lists(values, min_size=2, max_size=2)
    if shape == "map":
        return pa.map_(pa.string(), kind), st.none() | st.lists(st.tuples(TEXT, values), max_size=3)
    other, others = draw(columns(depth - 1))
    return pa.struct([("a", kind), ("b", other)]), st.none() | st.fixed_dictionaries({"a": values, "b": others})


@given(data=st.data())
@settings(max_examples=150)
def test_values_of_any_type_come_back_as_they_were(data: st.DataObject) -> None:
    kind, values = data.draw(columns())
    column = pa.array(data.draw(st.lists(values, max_size=4)), kind)
    text = json.dumps(to_json(column), allow_nan=False)
    found = from_json(json.loads(text), kind)
    found.validate(full=True)
    assert found.type == kind
    assert found.equals(column) or str(found) == str(column)  # NaN is not equal to itself


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x", None, "y", "x"]).dictionary_encode(),
        pa.array([["x"], None], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16))),
        pa.array([None, None], pa.null()),
    ],
    ids=lambda column: str(column.type),
)
def test_rare_types_come_back_as_they_were(column: pa.Array) -> None:
    found = from_json(json.loads(json.dumps(to_json(column), allow_nan=False)), column.type)
    assert found.type == column.type
    assert found.to_pylist() == column.to_pylist()


def test_chunks_and_slices_are_taken_as_they_are() -> None:
    column = pa.chunked_array([pa.array([[1.5], None, [2.5]]), pa.array([[float("nan")], []], pa.list_(pa.float64()))])
    assert to_json(column.slice(1)) == [None, [2.5], ["NaN"], []]
