"""Headers of tars, read alike by the standard library; what it passes over in silence is an error, or read."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.stores.forms.tars.headers import BLOCK, Heard, Kind, Member, TarError, members
from pipeline.stores.forms.tars.ranges import in_memory
from tests.tars import tar_of

KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.LINK,
    tarfile.LNKTYPE: Kind.LINK,
}
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
ENTRIES = st.lists(st.tuples(PATHS, st.sampled_from(sorted(KINDS)), st.binary(max_size=1500)), max_size=6)


def found(data: bytes) -> tuple[list[Member], Heard]:
    heard = Heard()
    return list(members(in_memory(data), len(data), heard)), heard


@given(entries=ENTRIES, format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@settings(max_examples=80)
def test_members_are_those_of_the_standard_library(entries: list[tuple[str, bytes, bytes]], format: int) -> None:
    buffer = io.BytesIO()
    try:
        with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
            for name, kind, data in entries:
                member = tarfile.TarInfo(name)
                member.type, member.size = kind, len(data) if kind == tarfile.REGTYPE else 0
                tar.addfile(member, io.BytesIO(data))
    except ValueError:  # ustar has no room for some names
        assume(False)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        expected = [(m.name, KINDS[m.type], m.offset_data, m.size) for m in tar.getmembers()]
    read, heard = found(buffer.getvalue())
    assert [(m.name.rstrip("/"), m.kind, m.offset, m.size) for m in read] == expected
    assert heard.has_end


WHOLE = tar_of([("a.jpg", b"1" * 700), ("n" * 150 + ".jpg", b"2" * 10), ("c.jpg", b"3" * 512)])
ALL = found(WHOLE)[0]


@given(cut=st.integers(1, len(WHOLE)))
@settings(max_examples=100)
def test_a_tar_that_is_cut_off_says_so(cut: int) -> None:
    """Between two members, nothing but the missing mark at the end can tell."""
    try:
        read, heard = found(WHOLE[:cut])
    except TarError:
        return
    assert read == [member for member in ALL if member.offset + member.size <= cut]
    assert not heard.has_end or read == ALL


@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_a_header_that_is_damaged_is_an_error_and_never_a_shorter_tar(at: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= 1 << bit
    try:
        read, _ = found(bytes(damaged))
    except TarError:
        return
    in_name = [m for m, before in zip(read, ALL, strict=True) if m != before]  # the long name has no checksum
    assert [(m.offset, m.size) for m in read] == [(m.offset, m.size) for m in ALL]
    assert len(in_name) <= 1


def test_tars_that_were_joined_are_read_to_the_end() -> None:
    read, _ = found(tar_of([("a.jpg", b"1")]) + tar_of([("b.jpg", b"2")]))
    assert [member.name for member in read] == ["a.jpg", "b.jpg"]


def test_sizes_beyond_octal_digits_and_bytes_that_are_no_text() -> None:
    data = bytearray(tar_of([("a.jpg", b"x")], format=tarfile.GNU_FORMAT))
    data[0:1] = b"\xff"
    data[124:136] = b"\x80" + (1).to_bytes(11, "big")
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:BLOCK]) + 256)
    (member,), _ = found(bytes(data))
    assert (member.name, member.size) == ("\\xff.jpg", 1)


@pytest.mark.parametrize("data", [b"x" * 600, b"\x1f\x8b" + b"\1" * 700])
def test_other_files_are_no_tar(data: bytes) -> None:
    with pytest.raises(TarError, match="is no tar"):
        found(data)


def test_notes_of_the_global_header_come_with_the_place_where_all_else_begins() -> None:
    notes = {"transdomain": "ä" * 700, "other": "a=b\nc"}
    header = tarfile.TarInfo.create_pax_global_header(notes)
    (member,), heard = found(header + tar_of([("a.jpg", b"1")]))
    assert (heard.notes, heard.body, member.offset) == (notes, len(header), len(header) + BLOCK)
