"""New form of a store: a class and an entry of one table suffice for all readers of stores."""

from __future__ import annotations

import base64
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import pack, verify
from pipeline import storage
from pipeline.stores import open_store
from pipeline.stores.forms import registry
from pipeline.stores.forms.form import StoreForm
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import IMAGE_TYPE, SHARD, Store, image_array, require_unchanged
from tests import corpus


class Lines(StoreForm):
    """Text files with one image per line: its key, a space, and its bytes in base64."""

    name, title, one = "lines", "text files of images", "text file of images"

    def reads(self, name):  # type: ignore[no-untyped-def]
        return name.endswith(".lines")

    def open(self, url, entries, *, alike=True):  # type: ignore[no-untyped-def]
        counts = [storage.read(e.url).count(b"\n") for e in entries]
        ranges = [Range(e.name, e.url, e.version, 0, n, e.size) for e, n in zip(entries, counts, strict=True)]
        return Store(url, self.name, pa.schema([("key", pa.string()), ("image", IMAGE_TYPE)]), ranges)

    def read(self, ranges, columns, *, wants=None, unchanged=False):  # type: ignore[no-untyped-def]
        rows = []
        for r in ranges:
            lines = storage.read(require_unchanged(r).url).decode().splitlines()[r.start : r.stop]
            rows += [(*line.split(" "), r.shard) for line in lines if not wants or wants(line.split(" ")[0])]
        keys, data, shards = zip(*rows, strict=True)
        return pa.table({"key": keys, "image": image_array(map(base64.b64decode, data), keys), SHARD: shards})

    def row_names(self, piece):  # type: ignore[no-untyped-def]
        return [f"{piece.shard}#{row}" for row in range(piece.start, piece.stop)]

    def keys(self, store):  # type: ignore[no-untyped-def]
        yield from ((r.url, self.read([r], None)["key"].to_pylist()) for r in store.ranges)

    def has_unique_keys(self, store):  # type: ignore[no-untyped-def]
        return False


def test_it_is_packed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "FORMS", [Lines(), *registry.FORMS])
    folder = corpus.write_folder(str(tmp_path / "folder"), 6)
    texts = [
        "".join(f"{e.name} {base64.b64encode(storage.read(e.url)).decode()}\n" for e in half)
        for half in (storage.list_files(folder)[:4], storage.list_files(folder)[4:])
    ]
    for i, text in enumerate(texts):
        storage.replace(str(tmp_path / f"in/{i}.lines"), text.encode())
    assert open_store(str(tmp_path / "in")).rows == 9
    options = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--limits.rows", "2", "--local"]
    assert pack.main([*options, "--budget.share", "0.9"]) == 0
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    assert "9 inputs = 6 ok + 3 quarantined" in capsys.readouterr().out
    rows = corpus.rows(str(tmp_path / "out"))
    files = {e.name: storage.read(e.url) for e in storage.list_files(folder)}
    assert {row["key"]: row["image"]["bytes"] for row in rows} == {row["key"]: files[row["key"]] for row in rows}
