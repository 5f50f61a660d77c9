"""Thrift's compact protocol: what was read is written again byte for byte, and damage is told from a short piece."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stores.forms.groups import thrift

NUMBERS = st.integers(-(2**63), 2**63 - 1)


def values(depth: int = 3) -> st.SearchStrategy[tuple[int, Any]]:
    plain = st.one_of(
        st.tuples(st.sampled_from([thrift.TRUE, thrift.FALSE]), st.none()),
        st.tuples(st.just(thrift.I8), st.integers(0, 255)),
        st.tuples(st.sampled_from([thrift.I16, thrift.I32, thrift.I64]), NUMBERS),
        st.tuples(st.just(thrift.DOUBLE), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(thrift.BINARY), st.binary(max_size=300)),
        st.tuples(st.just(thrift.LIST), st.tuples(st.just(thrift.I64), st.lists(NUMBERS, max_size=20))),
        st.tuples(
            st.just(thrift.LIST), st.tuples(st.just(thrift.TRUE), st.lists(st.sampled_from([1, 2]), max_size=20))
        ),
    )
    if not depth:
        return plain
    inner = structs(depth - 1)
    return (
        plain
        | st.tuples(st.just(thrift.STRUCT), inner)
        | st.tuples(st.just(thrift.LIST), st.tuples(st.just(thrift.STRUCT), st.lists(inner, max_size=3)))
    )


def structs(depth: int = 3) -> st.SearchStrategy[thrift.Struct]:
    return st.dictionaries(st.integers(1, 100), values(depth), max_size=4)


@given(structs())
def test_any_struct_comes_back(struct: thrift.Struct) -> None:
    data = thrift.encode(struct)
    assert thrift.decode(data + b"more") == (struct, len(data))
    assert thrift.decode(b"before" + data, 6) == (struct, 6 + len(data))


@given(structs(), st.data())
def test_a_part_of_a_struct_is_known_as_one(struct: thrift.Struct, data: st.DataObject) -> None:
    whole = thrift.encode(struct)
    with pytest.raises(EOFError):
        thrift.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_struct_or_refused(data: bytes) -> None:
    with contextlib.suppress(EOFError, ValueError):
        struct, end = thrift.decode(data)
        assert thrift.decode(thrift.encode(struct))[0] == struct
        assert 0 < end <= len(data)


def test_structs_nested_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        thrift.decode(b"\x1c" * 10_000)


def test_a_list_of_impossible_length_is_refused() -> None:
    with pytest.raises(EOFError):
        thrift.decode(b"\x19\xf5" + thrift.varint(2**60))


def test_a_footer_is_written_again_byte_for_byte() -> None:
    buffer = io.BytesIO()
    rows = pa.table({"a": [[1, None]], "b": ["x"], "c": [{"d": 1.5}], "e": [True]})
    pq.write_table(rows, buffer, write_page_index=True, sorting_columns=[pq.SortingColumn(1)])
    data = buffer.getvalue()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    assert thrift.encode(thrift.decode(footer)[0]) == footer
