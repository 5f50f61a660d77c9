"""Parquet as people have it, through pack, translate and verify in the plain loop, and killed on the way."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, translate, verify
from pipeline import images
from pipeline.stores.tables.schema import IMAGE_TYPE
from tests import corpus

UUIDS = [uuid.UUID(int=i + 1) for i in range(4)]


def encoded(seed: int) -> bytes:
    return images.encode(corpus.picture(seed), images.Encoding(codec="png"))


def usual(*seeds: int) -> pa.Array:
    return pa.array([{"bytes": encoded(seed), "path": None} for seed in seeds], IMAGE_TYPE)


def write(folder: Path, *tables: pa.Table | dict[str, Any]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables):
        pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), folder / f"{number}.parquet")
    return str(folder)


def differing(folder: Path) -> str:
    """Write three shards that differ in every harmless way at once."""
    shape = pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])
    first = {"key": [1, 2], "image": usual(0, 1), "label": pa.array([1, 2], pa.int32()), "boxes": [[], []]}
    second = {
        "boxes": pa.array([[1.5], None], pa.large_list(pa.float64())),
        "label": pa.array([3, 2**40], pa.int64()),
        "image": pa.array([{"bytes": encoded(2), "path": "p"}, {"bytes": encoded(3), "path": None}], shape),
        "key": pa.array(["c", "d"]).dictionary_encode(),
    }
    third = {"key": ["e"], "image": usual(4), "label": pa.array([None], pa.null()), "boxes": pa.array([[2.5]])}
    return write(folder, pa.table(first), pa.table(second), pa.table(third))


def run(job: Any, source: str, output: Path, *options: str) -> int:
    return job.main(["--input", source, "--output", str(output), "--local", "--limits.rows", "2", *options])


def schemas(output: Path) -> set[pa.Schema]:
    return {pq.read_schema(path).remove_metadata() for path in (output / "data").rglob("*.parquet")}


def test_shards_that_differ_go_through_pack_translate_and_verify(tmp_path: Path) -> None:
    source, bundle = differing(tmp_path / "in"), corpus.write_bundle(str(tmp_path / "bundle"))
    assert run(pack, source, tmp_path / "packed") == 0
    assert run(translate, source, tmp_path / "out", "--bundle", bundle, "--keep_source") == 0
    for output in (tmp_path / "packed", tmp_path / "out"):
        rows = sorted(corpus.rows(str(output)), key=lambda row: row["key"])
        assert [(row["key"], row["label"], row["boxes"]) for row in rows] == [
            ("1", 1, []), ("2", 2, []), ("c", 3, [1.5]), ("d", 2**40, None), ("e", None, [2.5]),
        ]  # fmt: skip
        pictures = [row["source_image" if "source_image" in row else "image"] for row in rows]
        assert [picture["bytes"] for picture in pictures] == [encoded(i) for i in range(5)]
        assert len(schemas(output)) == 1
        assert verify.main(["--input", str(output)]) == 0


DIES = """
import os, sys
from pipeline.engine.publishing import steps
from jobs import pack

publish, made = steps.publish, []

def dies(*given, **named):
    made.append(1)
    return publish(*given, **named) if len(made) < 2 else os._exit(9)

steps.publish = dies
sys.exit(pack.main(sys.argv[1:]))
"""
"""Pack that is gone with its second unit."""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    source = differing(tmp_path / "in")
    assert run(pack, source, tmp_path / "whole") == 0
    options = ["--input", source, "--output", str(tmp_path / "killed"), "--local", "--limits.rows", "2"]
    killed = subprocess.run([sys.executable, "-c", DIES, *options], capture_output=True, check=False)
    assert killed.returncode == 9, killed.stderr.decode()
    assert len(list((tmp_path / "killed/data").iterdir())) == 1
    assert pack.main(options) == 0
    assert corpus.contents(str(tmp_path / "killed")) == corpus.contents(str(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (pa.array([each.bytes for each in UUIDS], pa.uuid()), list(map(str, UUIDS))),
        (pa.array([each.bytes for each in UUIDS], pa.binary(16)), list(map(str, UUIDS))),
        (pa.array([None] * 4, pa.null()), [f"0.parquet#{i:09d}" for i in range(4)]),
        (pa.array([12, 13, 14, 15], pa.decimal128(38, 0)), ["12", "13", "14", "15"]),
    ],
    ids=["uuid", "16 bytes", "null", "decimal"],
)
def test_keys_become_text(tmp_path: Path, keys: pa.Array, expected: list[str]) -> None:
    source = write(tmp_path / "in", {"key": keys, "image": usual(0, 1, 2, 3)})
    options = ["--split", "train", "0.5", "test", "0.5"]
    assert run(pack, source, tmp_path / "out", *options) == 0
    rows = [row for part in ("train", "test") for row in corpus.rows(str(tmp_path / "out" / part))]
    assert sorted(row["key"] for row in rows) == expected
    assert [verify.main(["--input", str(tmp_path / "out" / part)]) for part in ("train", "test")] == [0, 0]


def test_keys_that_begin_anew_in_each_shard_have_a_way_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in", *[{"key": ["0", "1"], "image": usual(i, i + 1)} for i in (0, 2)])
    assert run(pack, source, tmp_path / "out") == 2
    assert "the key '0' occurs in" in (said := capsys.readouterr().err)
    assert "--keys by_shard names the rows SHARD#KEY" in said
    assert run(pack, source, tmp_path / "out", "--keys", "by_shard") == 0
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    assert run(translate, source, tmp_path / "translated", "--bundle", bundle, "--keys", "by_shard") == 0
    for name in ("out", "translated"):
        assert sorted(row["key"] for row in corpus.rows(str(tmp_path / name))) == [
            f"{shard}.parquet#{key}" for shard in (0, 1) for key in (0, 1)
        ]
        assert verify.main(["--input", str(tmp_path / name)]) == 0
    assert run(pack, source, tmp_path / "out") == 2
    assert "keys: by_shard there" in capsys.readouterr().err


def test_bytes_and_tensors_are_translated(tmp_path: Path) -> None:
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    pixels = np.stack([corpus.picture(i) for i in range(2)])
    columns = {
        "binary": pa.array([encoded(0), encoded(1)], pa.large_binary()),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels),
        "struct": usual(0, 1),
    }
    made = {}
    for name, column in columns.items():
        source = write(tmp_path / name, {"key": ["a", "b"], "jpg": column})
        output = tmp_path / f"out-{name}"
        assert run(translate, source, output, "--bundle", bundle, "--encoding.codec", "png") == 0
        assert verify.main(["--input", str(output)]) == 0
        rows = corpus.rows(str(output))
        assert "jpg" not in rows[0]
        made[name] = [row["image"]["bytes"] for row in rows]
    assert made["binary"] == made["tensor"] == made["struct"]


def test_new_shards_come_in_the_schema_of_those_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    source = write(tmp_path / "in", {"key": ["a"], "image": usual(0), "x": pa.array([1], pa.int64())})
    assert run(pack, source, output) == 0
    more = {"x": pa.array([2], pa.int8()), "image": usual(1), "key": ["b"]}
    pq.write_table(pa.table(more), f"{source}/1.parquet")
    assert run(pack, source, output) == 0
    assert len(schemas(output)) == 1
    pq.write_table(pa.table({"key": ["c"], "image": usual(2), "x": pa.array([2], pa.uint8())}), f"{source}/2.parquet")
    assert run(pack, source, output) == 0
    assert [row["x"] for row in corpus.rows(str(output))] == [1, 2, 2]
    assert len(schemas(output)) == 1
    assert verify.main(["--input", str(output)]) == 0
    capsys.readouterr()
    narrow = write(tmp_path / "narrow", {"key": ["a"], "image": usual(0), "x": pa.array([1], pa.int8())})
    assert run(pack, narrow, tmp_path / "narrow-out") == 0
    wide = {"key": ["b"], "image": usual(1), "x": pa.array([1000], pa.int16())}
    pq.write_table(pa.table(wide), f"{narrow}/1.parquet")
    assert run(pack, narrow, tmp_path / "narrow-out") == 2
    assert "its new shards have other columns than those that" in (said := capsys.readouterr().err)
    assert "x: int16" in said


def test_new_shards_that_sort_before_the_others_come_in_their_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(source, {"key": ["a"], "image": usual(0), "x": pa.array([1], pa.int64())})
    (source / "0.parquet").rename(source / "5.parquet")
    assert run(pack, str(source), output) == 0
    pq.write_table(pa.table({"x": pa.array([2], pa.int8()), "image": usual(1), "key": ["b"]}), source / "3.parquet")
    assert run(pack, str(source), output) == 0
    assert [row["x"] for row in corpus.rows(str(output))] == [1, 2]
    assert len(schemas(output)) == 1
    pq.write_table(pa.table({"key": ["c"], "image": usual(2), "y": ["p"]}), source / "1.parquet")
    assert run(pack, str(source), output) == 2
    assert "its new shards have other columns than those that" in (said := capsys.readouterr().err)
    assert "(x: int64 missing; y: string unexpected); write them like those, or give another output" in said


def test_a_single_picture_and_a_single_shard_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded(0))
    write(tmp_path / "shards", {"key": ["a"], "image": usual(0)})
    for name, source, key in (("picture", "one.png", "one.png"), ("shard", "shards/0.parquet", "a")):
        assert run(pack, str(tmp_path / source), tmp_path / name) == 0
        (row,) = corpus.rows(str(tmp_path / name))
        assert (row["key"], row["image"]["bytes"]) == (key, encoded(0))
        assert verify.main(["--input", str(tmp_path / name)]) == 0
