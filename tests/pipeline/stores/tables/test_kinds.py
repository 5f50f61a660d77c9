"""Types that hold each other's values, and those that do not."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.stores.tables.kinds import can_be_key, common, common_field

FLOATS = pa.list_(pa.float64())


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.null(), FLOATS, FLOATS),
        (pa.list_(pa.null()), FLOATS, FLOATS),
        (pa.string(), pa.large_string(), pa.string()),
        (pa.binary(), pa.large_binary(), pa.binary()),
        (pa.dictionary(pa.int8(), pa.string()), pa.large_string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int8(), pa.int64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.decimal128(5, 1), pa.decimal256(40, 1), pa.decimal256(40, 1)),
        (pa.large_list(pa.int8()), pa.list_(pa.int16()), pa.list_(pa.int16())),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int16(), 2), pa.list_(pa.int16(), 2)),
        (pa.map_(pa.string(), pa.int8()), pa.map_(pa.large_string(), pa.int16()), pa.map_(pa.string(), pa.int16())),
        (
            pa.struct([("a", pa.int8()), ("b", pa.string())]),
            pa.struct([("b", pa.null()), ("a", pa.int16())]),
            pa.struct([("a", pa.int16()), ("b", pa.string())]),
        ),
    ],
    ids=str,
)
def test_types_of_the_same_values_have_a_common_one(
    one: pa.DataType, other: pa.DataType, expected: pa.DataType
) -> None:
    assert common(one, other) == common(expected, common(other, one)) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int64(), pa.string()), (pa.int64(), pa.float64()), (pa.uint64(), pa.int8()), (pa.bool_(), pa.int8()),
        (pa.string(), pa.binary()), (pa.decimal128(5, 1), pa.decimal128(5, 2)), (pa.list_(pa.int8(), 2), FLOATS),
        (pa.timestamp("ms"), pa.timestamp("us")), (pa.binary(4), pa.binary(5)), (FLOATS, pa.list_(pa.string())),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])), (pa.struct([]), pa.int8()),
    ],
    ids=str,
)  # fmt: skip
def test_types_of_other_values_have_none(one: pa.DataType, other: pa.DataType) -> None:
    assert common(one, other) is None
    assert common(other, one) is None


def test_a_field_is_nullable_where_either_is() -> None:
    one, other = pa.field("x", pa.int8(), nullable=False), pa.field("x", pa.int8())
    assert common_field(one, other) == common_field(other, one) == other
    assert common_field(one, one) == one


def test_text_whole_numbers_and_uuids_can_be_keys() -> None:
    texts = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    assert all(map(can_be_key, [*texts, pa.int8(), pa.uint64(), pa.decimal128(38, 0), pa.uuid(), pa.binary(16)]))
    others = [pa.float64(), pa.decimal128(5, 1), pa.bool_(), pa.binary(), pa.binary(8), pa.list_(pa.string())]
    assert not any(map(can_be_key, [*others, pa.struct([("a", pa.int8())]), pa.timestamp("s")]))
