from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import images
from pipeline.engine.estimate import looking
from pipeline.engine.estimate.drawing import pile_of
from pipeline.engine.estimate.looking import UNKNOWN, UNREADABLE, Header, Looked, inputs_by_format, look
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit, plan_units
from pipeline.stores import open_store
from tests import corpus


def units_of(url: str) -> list[Unit]:
    return list(pile_of(plan_units(open_store(url).ranges, Limits())).drawn)


def test_headers_of_files_say_format_and_size_and_what_says_none_is_counted(tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 12, height=20, width=30)
    (tmp_path / "in" / "gone.png").write_bytes(b"x")
    units = units_of(source)
    (tmp_path / "in" / "gone.png").unlink()
    looked = look(units, "image", 16)
    assert looked.headers.count(Header("JPEG", 30, 20)) == 4
    assert looked.headers.count(Header("PNG", 30, 20)) == 8
    assert looked.headers.count(Header(UNREADABLE, 0, 0)) == 1
    assert looked.headers.count(Header(UNKNOWN, 0, 0)) == 2  # an empty file and a text
    assert looked.headers.count(Header("JPEG", 64, 64)) == 1  # truncated, and its header is whole
    assert looked.pixels == (12 * 600 + 64 * 64) / 13


def test_a_size_far_behind_the_start_of_a_file_is_found(tmp_path: Path) -> None:
    data = images.encode(corpus.picture(1, 20, 30), images.Encoding())
    profile = b"\xff\xe2\xff\xff" + bytes(0xFFFD)
    (tmp_path / "a.jpg").write_bytes(data[:2] + 2 * profile + data[2:])
    assert look(units_of(str(tmp_path)), "image", 1).headers == [Header("JPEG", 30, 20)]


def test_cells_of_shards_are_looked_at_but_not_for_a_large_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images.encode(corpus.picture(1, 20, 30), images.Encoding(codec="png"))
    cells = [{"bytes": data, "path": None}] * 9 + [{"bytes": None, "path": "x"}, None]
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    looked = look(units_of(str(tmp_path)), "image", 11)
    assert looked.headers.count(Header("PNG", 30, 20)) == 9
    assert looked.headers.count(Header(UNKNOWN, 0, 0)) == 2
    monkeypatch.setattr(looking, "_MOST_BYTES", 10)
    assert look(units_of(str(tmp_path)), "image", 11) == Looked((), 11)


HEADERS = st.lists(st.builds(Header, st.sampled_from(["JPEG", "PNG"]), st.integers(0, 99), st.integers(0, 99)))
ENDINGS = st.dictionaries(
    st.sampled_from([".jpg", ".jpeg", ".png", ".tif", ".xyz"]), st.tuples(st.integers(1, 99), st.integers(0, 10**6))
)


@given(HEADERS, ENDINGS, st.integers(1, 10**6), st.integers(0, 10**9))
def test_formats_add_up_to_all_inputs(
    headers: list[Header], endings: dict[str, tuple[int, int]], rows: int, size: int
) -> None:
    found = inputs_by_format(endings, rows, size, Looked(headers, rows))
    assert [each.images for each in found] == sorted((each.images for each in found), reverse=True)
    if endings:
        assert sum(each.images for each in found) == sum(count for count, _ in endings.values())
        assert sum(each.size for each in found) == sum(of for _, of in endings.values())
        assert all(each.counted for each in found)
    else:
        assert abs(sum(each.images for each in found) - rows) <= len(found)
        assert abs(sum(each.size for each in found) - size) <= len(found)
    for each in found:
        if each.median and each.largest:
            assert each.median[0] * each.median[1] <= each.largest[0] * each.largest[1]
