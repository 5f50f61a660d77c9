"""Boxes of AVIF and HEIF files, put together by hand where no available writer makes such files."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.formats.boxes import primary


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def file(properties: list[bytes], belongs: dict[int, list[int]], item: int = 1, brand: bytes = b"avif") -> bytes:
    """Return a file whose items have these properties, counted from 1."""
    associations = b"".join(struct.pack(">HB", each, len(places)) + bytes(places) for each, places in belongs.items())
    ipma = box(b"ipma", bytes(4), struct.pack(">I", len(belongs)), associations)
    pitm = box(b"pitm", bytes(4), struct.pack(">H", item))
    iprp = box(b"iprp", box(b"ipco", *properties), ipma)
    return box(b"ftyp", brand, bytes(4), b"mif1") + box(b"meta", bytes(4), pitm, iprp) + box(b"mdat", bytes(50))


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", bytes(4), struct.pack(">II", width, height))


def av1c(flags: int) -> bytes:
    return box(b"av1C", bytes([0x81, 0, flags, 0]))


PIXI = box(b"pixi", bytes(4), bytes([3, 10, 10, 10]))


def test_the_primary_picture_is_described_and_no_other() -> None:
    data = file([ispe(99, 98), av1c(0x10), ispe(40, 24), av1c(0x60)], {1: [1, 2], 2: [3, 4]}, item=2)
    found = primary(data)
    assert (found.width, found.height, found.bits, found.channels) == (40, 24, 12, 3)


@pytest.mark.parametrize(
    ("properties", "bits", "channels"),
    [
        ([av1c(0)], 8, 3),
        ([av1c(0x10)], 8, 1),
        ([av1c(0x40)], 10, 3),
        ([PIXI], 10, 3),
        ([box(b"hvcC", bytes(16), bytes([0xFD, 0xFA]))], 10, 3),
        ([box(b"hvcC", bytes(16), bytes([0xFC, 0xF8]))], 8, 1),
        ([], 0, 0),
    ],
)
def test_depth_and_channels(properties: list[bytes], bits: int, channels: int) -> None:
    found = primary(file([ispe(40, 24), *properties], {1: [1, 2]}))
    assert (found.width, found.bits, found.channels) == (40, bits, channels)


def test_a_picture_of_tiles_is_coded_as_its_first_tile() -> None:
    """Phones keep tiles as items of their own, with properties of their own."""
    data = file([av1c(0x40), ispe(512, 512), ispe(4032, 3024), av1c(0x10)], {1: [1, 2], 2: [3], 3: [4]}, item=2)
    found = primary(data)
    assert (found.width, found.height, found.bits, found.channels) == (4032, 3024, 10, 3)


@pytest.mark.parametrize(
    ("turn", "axis", "orientation"),
    [(0, None, 1), (1, None, 8), (2, None, 3), (3, None, 6), (0, 0, 4), (0, 1, 2), (1, 0, 5), (3, 0, 7)],
)
def test_turns_and_mirrors(turn: int, axis: int | None, orientation: int) -> None:
    mirror = [] if axis is None else [box(b"imir", bytes([axis]))]
    data = file([ispe(40, 24), box(b"irot", bytes([turn])), *mirror], {1: [1, 2, 3]})
    assert primary(data).orientation == orientation


@pytest.mark.parametrize("brand", [b"avif", b"avis", b"mif1"])
def test_one_picture_is_sure_by_the_first_brand_alone(brand: bytes) -> None:
    assert primary(file([ispe(1, 1)], {1: [1]}, brand=brand)).one == (brand == b"avif")


@given(st.binary(max_size=300), st.integers(0, 250))
def test_no_boxes_are_too_strange(noise: bytes, at: int) -> None:
    whole = file([ispe(40, 24), av1c(0), PIXI, box(b"irot", b"\1"), box(b"imir", b"\1")], {1: [1, 2, 3, 4, 5]})
    for data in (noise, whole[:at], whole[:at] + noise, whole[:at] + noise + whole[at + len(noise) :]):
        found = primary(data)
        assert min(found.width, found.height, found.bits) >= 0
        assert found.orientation in range(1, 9)
