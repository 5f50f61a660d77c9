"""Every kind of picture, put into each form of store and packed into each: read to the pixels of another reader."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, verify
from pipeline import images, storage
from pipeline.stores import open_store, read_rows
from pipeline.stores.forms import FormName
from pipeline.stores.tables.schema import image_array
from tests import corpus
from tests.integration.matrix import ORIENTATIONS, Case, cases
from tests.tars import write_tar

FORMS = cast(tuple[str, ...], get_args(FormName))


class Picture(NamedTuple):
    """A file with what it shows."""

    case: Case
    data: bytes
    pixels: np.ndarray
    """Pixels [height, width, channels] as another reader has them."""
    orientation: int


def pictures(every: bool) -> Iterator[tuple[str, Picture]]:
    """Return files by a name without a dot: each case in all orientations, or each in another one."""
    for number, case in enumerate(cases()):
        turns = ORIENTATIONS if every else [number % 8 + 1]
        for orientation in turns if case.turns else [1]:
            data = case.file(orientation)
            found = Picture(case, data, case.expected(data, orientation), orientation)
            yield f"{case.name}-{orientation}", found


@pytest.fixture(scope="module")
def few() -> dict[str, Picture]:
    return dict(pictures(every=False))


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, Picture]:
    return dict(pictures(every=True))


def write(form: str, url: str, given: dict[str, Picture]) -> None:
    """Write files into a store of this form, by no code of the product."""
    if form == "parquet":
        images_of = image_array([each.data for each in given.values()], list(given))
        Path(url).mkdir(parents=True)
        pq.write_table(pa.table({"key": list(given), "image": images_of}), f"{url}/0.parquet")
    elif form == "folder":
        for name, each in given.items():
            storage.replace(f"{url}/{each.case.ending}/{name}.{each.case.ending}", each.data)
    else:
        write_tar(f"{url}/0.tar", [(f"{name}.{each.case.ending}", each.data) for name, each in given.items()])


def taken(form: str, given: dict[str, Picture]) -> dict[str, Picture]:
    """Return what a store of this form may hold: files and members of tars called .gif are no images by their names."""
    return {name: each for name, each in given.items() if form == "parquet" or each.case.ending != "gif"}


def check(url: str, given: dict[str, Picture]) -> None:
    """Check that a store has these pictures, each once, and that they show what another reader sees."""
    store = open_store(url)
    rows = read_rows(list(store.ranges), ["image"]).to_pylist()
    found = {row["key"].rpartition("/")[2].partition(".")[0]: row["image"]["bytes"] for row in rows}
    assert len(rows) == len(given)
    assert found.keys() == given.keys()
    wrong = []
    for name, each in given.items():
        assert found[name] == each.data, name
        decoded = images.decode(found[name], wanted=None, pages="first")
        same = decoded.pixels.shape == each.pixels.shape and decoded.orientation == each.orientation
        if not same or np.abs(decoded.pixels - each.pixels.astype(float)).max() > each.case.near:
            wrong.append(name)
    assert not wrong


def files_in(form: str, url: str) -> list[str]:
    """Return the names of the files with pictures in an output."""
    entries = storage.list_files(url)
    if form == "webdataset":
        names = []
        for entry in entries:
            with tarfile.open(entry.url) as tar:
                names += [name for name in tar.getnames() if not name.endswith(".json")]
        return names
    return [entry.name for entry in entries if not entry.name.endswith(".parquet")]


def go_through(read: str, written: str, given: dict[str, Picture], folder: Path) -> None:
    """Write pictures in one form, pack them into another, and check both."""
    given = taken(written, taken(read, given))
    source, output = str(folder / f"in-{read}"), str(folder / f"{read}-{written}")
    write(read, source, given)
    check(source, given)
    arguments = ["--input", source, "--output", output, "--form", written, "--local", "--limits.rows", "50"]
    assert pack.main([*arguments, "--pixels", "any", "--reading.pages", "first"]) == 0
    check(output, given)
    assert verify.main(["--input", output]) == 0
    if written != "parquet":
        endings = [name.rpartition(".")[2] for name in files_in(written, f"{output}/data")]
        assert sorted(endings) == sorted(each.case.ending for each in given.values())
    store = open_store(output)
    rows = read_rows(list(store.ranges), ["width", "height"]).to_pylist()
    sizes = {row["key"].rpartition("/")[2].partition(".")[0]: (row["height"], row["width"]) for row in rows}
    assert sizes == {name: each.pixels.shape[:2] for name, each in given.items()}


@pytest.mark.parametrize(("read", "written"), list(zip(FORMS, FORMS[1:] + FORMS[:1], strict=True)))
def test_each_kind_in_one_orientation(read: str, written: str, few: dict[str, Picture], tmp_path: Path) -> None:
    go_through(read, written, few, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("read", "written"), list(itertools.product(FORMS, FORMS)))
def test_each_kind_in_every_orientation(
    read: str, written: str, all_of_them: dict[str, Picture], tmp_path: Path
) -> None:
    go_through(read, written, all_of_them, tmp_path)


def test_what_is_not_asked_for_is_set_aside_by_name(few: dict[str, Picture], tmp_path: Path) -> None:
    """By default RGB and grey of 8 bits of one picture alone are taken; all else is named with its reason."""
    write("parquet", str(tmp_path / "in"), few)
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--local"]
    assert pack.main([*arguments, "--budget.share", "0.99"]) == 0

    def reason(each: Picture) -> str:
        if each.case.ending == "gif":
            return "unsupported format"
        if "several-pages" in each.case.name:
            return "several pictures"
        wide = each.pixels.max() > 255
        return "unsupported type" if wide or each.pixels.shape[2] not in (1, 3) else ""

    expected = {name: reason(each) for name, each in few.items()}
    aside = {row["key"]: row["reason"] for row in corpus.rows_below(str(tmp_path / "out/_quarantine"))}
    assert aside == {name: why for name, why in expected.items() if why}
    assert {row["key"] for row in corpus.rows(str(tmp_path / "out"))} == expected.keys() - aside.keys()


def test_heif(tmp_path: Path) -> None:
    """Orientation is applied once by its library; what it gives is compared with what was written, nearly."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra heif)")
    pixels = corpus.picture(1, 48, 64)
    heif = pillow_heif.from_bytes("RGB", (64, 48), pixels.tobytes())
    heif.save(tmp_path / "in.heic", quality=100, chroma=444)
    assert pack.main(["--input", str(tmp_path / "in.heic"), "--output", str(tmp_path / "out"), "--local"]) == 0
    (row,) = corpus.rows(str(tmp_path / "out"))
    assert np.abs(images.decode(row["image"]["bytes"]).pixels.astype(int) - pixels).max() <= 6
