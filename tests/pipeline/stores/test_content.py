"""Files whose names say nothing: images by their first bytes, or GIFs by the user's word; all others are counted."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import images, storage
from pipeline.errors import StorageError, UserError
from pipeline.stores import Store, open_store, read_rows
from pipeline.stores.tables.options import StoreOptions
from tests import corpus

PNG = images.encode(corpus.picture(1), images.Encoding(codec="png"))
JPEG = images.encode(corpus.picture(2), images.Encoding())
ANY = StoreOptions(extensions="any")
GIFS = StoreOptions(gifs=True)


def gif(frames: int = 2) -> bytes:
    first, *others = (Image.fromarray(corpus.picture(i)) for i in range(frames))
    first.save(buffer := io.BytesIO(), "GIF", save_all=True, append_images=others)
    return buffer.getvalue()


FILES = {
    "plain.png": PNG,
    "scan": JPEG,
    "export.dat": PNG,
    "1.2.840.113619": JPEG,
    "wrong.txt": JPEG,
    "notes.txt": b"no picture",
    "readme": b"",
    "moving.gif": gif(),
    "moving": gif(),
    "paper": b"%PDF-1.7 ...",
    ".hidden": PNG,
}


def put(prefix: str) -> str:
    for name, data in FILES.items():
        storage.replace(storage.join(prefix, name), data)
    return prefix


def names(store: Store) -> list[str]:
    return [piece.shard for piece in store.ranges]


def over(store: Store) -> dict[str, tuple[int, str]]:
    return {each.reason: (each.count, each.example) for each in store.passed_over}


def test_content_says_what_is_an_image_where_any_extension_will_do(any_prefix: str) -> None:
    store = open_store(put(any_prefix), options=ANY)
    assert names(store) == ["1.2.840.113619", "export.dat", "plain.png", "scan", "wrong.txt"]
    assert over(store) == {
        "GIF files (--reading.gif first reads their first frame)": (2, "moving"),
        "files without an ending, whose first bytes are of no image": (2, "paper"),
        "files ending in .txt, whose first bytes are of no image": (1, "notes.txt"),
        "names that begin with a dot": (1, ".hidden"),
    }
    assert store.first_bytes == len(FILES) - 2  # all but what is hidden, and what its ending says
    rows = read_rows(store.ranges).to_pylist()
    assert {row["key"]: row["image"]["bytes"] for row in rows} == {name: FILES[name] for name in names(store)}


def test_names_say_it_by_default_and_a_gif_says_what_to_do(tmp_path: Path) -> None:
    store = open_store(put(str(tmp_path)))
    assert (names(store), store.first_bytes) == (["plain.png"], 0)
    assert over(store)["files ending in .gif (--reading.gif first reads their first frame)"] == (1, "moving.gif")
    assert over(store)["files ending in .dat"] == (1, "export.dat")
    assert names(open_store(str(tmp_path), options=GIFS)) == ["moving.gif", "plain.png"]
    both = open_store(str(tmp_path), options=StoreOptions(extensions="any", gifs=True))
    assert set(names(both)) == {
        "1.2.840.113619",
        "export.dat",
        "moving",
        "moving.gif",
        "plain.png",
        "scan",
        "wrong.txt",
    }


def test_a_folder_without_any_ending_is_one_of_images(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        storage.replace(f"{tmp_path}/{name}", PNG)
    with pytest.raises(UserError, match="2 files without an ending"):
        open_store(str(tmp_path))
    store = open_store(str(tmp_path), options=ANY)
    assert (store.form, names(store)) == ("folder", ["a", "b/c"])
    assert names(open_store(f"{tmp_path}/a", options=ANY)) == ["a"]


def test_shards_come_before_files_that_no_name_describes(tmp_path: Path) -> None:

    pq.write_table(pa.table({"image": [{"bytes": PNG, "path": None}]}), tmp_path / "0.parquet")
    storage.replace(f"{tmp_path}/scan", PNG)
    store = open_store(str(tmp_path), options=ANY)
    assert (store.form, store.first_bytes) == ("parquet", 0)
    assert over(store) == {"files without an ending": (1, "scan")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_may_be_an_image(tmp_path: Path) -> None:
    put(str(tmp_path))
    (tmp_path / "scan").chmod(0)
    with pytest.raises(StorageError, match="scan: may not be read"):
        open_store(str(tmp_path), options=ANY)
