"""Folders of images with metadata files, as `datasets` has them, and what img2dataset writes as files."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, verify
from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.stores import SourceChangedError, open_store, read_rows
from pipeline.stores.forms.metadata.tables import table_of
from tests import corpus

PICTURE = images.encode(corpus.picture(1), images.Encoding(codec="png"))


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def csv(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]).encode()


WRITERS = {"metadata.csv": csv, "metadata.jsonl": lines, "metadata.parquet": parquet}


def write(url: str, names: list[str], **metadata: bytes) -> str:
    for name in names:
        storage.replace(f"{url}/{name}", PICTURE)
    for name, data in metadata.items():
        storage.replace(f"{url}/{name}", data)
    return url


def rows_of(url: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    store = open_store(url)
    rows = read_rows(store.ranges, columns).drop_columns("_transdomain.shard")
    assert columns is not None or rows.schema.equals(store.schema, check_metadata=True)
    return rows.to_pylist()


@pytest.mark.parametrize("name", WRITERS)
def test_rows_have_the_columns_of_their_file(any_prefix: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    said = [
        {"file_name": "b.png", "caption": "two", "n": 2},
        {"file_name": "sub/a.png", "caption": "one", "n": 1},
        {"file_name": "gone.png", "caption": "none", "n": 0},
        {"file_name": "B.png", "caption": "other", "n": 3},
    ]
    url = write(any_prefix, ["b.png", "sub/a.png", "more.png"], **{name: WRITERS[name](said)})
    with caplog.at_level(logging.WARNING):
        store = open_store(url)
    assert "1 of 3 images, such as more.png, are in no row of its metadata" in caplog.text
    assert store.passed_over == (storage.PassedOver("rows of metadata without a file", 2, "B.png"),)
    found = [{name: row[name] for name in ("key", "caption", "n")} for row in rows_of(url)]
    assert found == [
        {"key": "b.png", "caption": "two", "n": 2},
        {"key": "more.png", "caption": None, "n": None},
        {"key": "sub/a.png", "caption": "one", "n": 1},
    ]
    assert rows_of(url, ["n"]) == [{"key": row["key"], "n": row["n"]} for row in found]


def test_rows_are_those_that_datasets_reads(tmp_path: Path) -> None:
    for split in ("train", "test"):
        said = [{"file_name": f"{i}.png", "label": i, "objects": {"boxes": [[0, i]]}} for i in range(3)]
        write(f"{tmp_path}/in/{split}", ["0.png", "1.png", "2.png"], **{"metadata.jsonl": lines(said)})
    loaded = datasets.load_dataset("imagefolder", data_dir=f"{tmp_path}/in", cache_dir=f"{tmp_path}/cache")
    for split in ("train", "test"):
        of_split = [row for row in rows_of(f"{tmp_path}/in") if row["key"].startswith(split)]
        assert [row["label"] for row in of_split] == loaded[split]["label"]
        assert [row["objects"] for row in of_split] == loaded[split]["objects"]


def test_cells_of_csv_are_what_they_are_written_as() -> None:
    table = table_of(
        "metadata.csv", b'file_name,n,x,id,t,when,e\na,1,1.5,007,True,2024-01-01,\n"b\nc",,-2e3,010,False,NA,\n'
    )
    assert table.to_pylist() == [
        {"file_name": "a", "n": 1, "x": 1.5, "id": "007", "t": True, "when": "2024-01-01", "e": ""},
        {"file_name": "b\nc", "n": None, "x": -2000.0, "id": "010", "t": False, "when": "NA", "e": ""},
    ]


def test_what_looks_like_a_time_stays_text_in_json_lines() -> None:
    rows = [{"when": "2024-01-01", "deep": [{"at": "2024-01-01T00:00:00Z"}], "none": None}]
    assert table_of("metadata.jsonl", lines(rows)).to_pylist() == rows


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("metadata.csv", b"file_name,x\na.png,1\na.png,2\n", r"describe a\.png 2 times"),
        ("metadata.csv", b"name,x\na.png,1\n", "has no column file_name of text"),
        ("metadata.csv", b"file_name,x\na.png\n", "cannot be read"),
        ("metadata.jsonl", b'{"file_name": "a.png", "x": 1}\n{"file_name": "b.png", "x": "s"}\n', "cannot be read"),
        ("metadata.jsonl", b"{no", "cannot be read"),
        ("metadata.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_metadata_that_cannot_be_used_end_with_a_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_store(write(str(tmp_path), ["a.png"], **{name: data}))
    assert "\n" not in str(raised.value)


def test_columns_of_a_folder_itself_keep_their_names(tmp_path: Path) -> None:
    said = csv([{"file_name": "a.png", "key": "other", "image": "x"}])
    (row,) = rows_of(write(str(tmp_path), ["a.png"], **{"metadata.csv": said}))
    assert (row["key"], row["metadata.key"], row["metadata.image"]) == ("a.png", "other", "x")
    assert row["image"]["bytes"] == PICTURE


def test_metadata_that_change_are_not_joined(tmp_path: Path) -> None:
    url = write(str(tmp_path), ["a.png"], **{"metadata.csv": b"file_name,x\na.png,1\n"})
    store = open_store(url)
    write(url, [], **{"metadata.csv": b"file_name,x\na.png,22\n"})
    with pytest.raises(SourceChangedError, match=r"metadata\.csv has changed"):
        read_rows(store.ranges)
    assert len(read_rows(store.ranges, ["image"])) == 1


def test_what_img2dataset_wrote_as_files(tmp_path: Path) -> None:
    said = [{"key": f"00000000{i}", "caption": f"c{i}", "status": "success" if i else "failed"} for i in range(3)]
    names = [f"00000/00000000{i}.{ending}" for i in (1, 2) for ending in ("jpg", "json", "txt")]
    url = write(str(tmp_path), names, **{"00000.parquet": parquet(said), "00000_stats.json": b"{}"})
    assert [(row["key"], row["caption"], row["status"]) for row in rows_of(url)] == [
        (f"00000/00000000{i}.jpg", f"c{i}", "success") for i in (1, 2)
    ]
    assert ("rows of metadata without a file", 1) in [(e.reason, e.count) for e in open_store(url).passed_over]


def test_jobs_carry_the_columns_and_bind_their_output_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{i}.png" for i in range(5)]
    said = {"metadata.csv": csv([{"file_name": name, "n": i} for i, name in enumerate(names)])}
    url, output = write(f"{tmp_path}/in", names, **said), f"{tmp_path}/out"
    arguments = ["--input", url, "--output", output, "--local", "--limits.rows", "2"]
    assert pack.main(arguments) == 0
    assert [row["n"] for row in corpus.rows(output)] == list(range(5))
    assert verify.main(["--input", output]) == 0
    (tmp_path / "out/_transdomain/commits/000000-000001.json").unlink()
    (tmp_path / "out/data/000000-000001.parquet").unlink()
    (tmp_path / "out/_SUCCESS").unlink()
    write(url, [], **{"metadata.csv": csv([{"file_name": name, "n": 7} for name in names])})
    capsys.readouterr()
    assert pack.main(arguments) == 1
    assert "metadata.csv has changed since it was planned; --on_changed set_aside goes on" in capsys.readouterr().err
    write(url, [], **said)
    assert pack.main(arguments) == 0
    assert [row["n"] for row in corpus.rows(output)] == list(range(5))
    more = [*names, "6.png"]
    write(url, ["6.png"], **{"metadata.csv": csv([{"file_name": name, "n": i} for i, name in enumerate(more)])})
    assert pack.main(arguments) == 0
    assert [row["n"] for row in corpus.rows(output)] == list(range(6))


def test_columns_that_come_later_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, output = write(f"{tmp_path}/in", ["0.png", "1.png"]), f"{tmp_path}/out"
    arguments = ["--input", url, "--output", output, "--local"]
    assert pack.main(arguments) == 0
    write(url, ["3.png"], **{"metadata.csv": csv([{"file_name": "3.png", "n": 3}])})
    assert pack.main(arguments) == 2
    assert "its new shards have other columns than those" in capsys.readouterr().err


def test_images_whose_metadata_have_changed_are_set_aside_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, output = write(f"{tmp_path}/in", ["3.png"], **{"metadata.csv": csv([{"file_name": "3.png", "n": 3}])}), "out"

    def change(at: str) -> None:
        if at == "after plan":
            write(url, [], **{"metadata.csv": csv([{"file_name": "3.png", "n": 4}])})

    monkeypatch.setattr("pipeline.failpoints.point", change)
    arguments = ["--input", url, "--output", f"{tmp_path}/{output}", "--local"]
    assert pack.main([*arguments, "--on_changed", "set_aside"]) == 0
    [quarantined] = pq.read_table(tmp_path / output / "_quarantine").to_pylist()
    assert (quarantined["key"], quarantined["reason"]) == ("3.png", "changed")
    assert quarantined["message"].endswith("metadata.csv has changed since it was planned")
    assert verify.main(["--input", f"{tmp_path}/{output}"]) == 0
