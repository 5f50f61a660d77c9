"""Data sets that `datasets` has saved, as stores."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import pack, verify
from pipeline import images
from pipeline.errors import UserError
from pipeline.stores import SHARD, open_store, read_rows
from pipeline.stores.forms.arrow.messages import ArrowError, batches_of
from pipeline.stores.forms.tars.ranges import in_memory
from pipeline.stores.tables.features import features_of
from tests import corpus

COUNT = 25


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set of two files, some rows in each batch, and one of two splits."""
    folder = tmp_path_factory.mktemp("saved")
    pictures = [images.encode(corpus.picture(i), images.Encoding(codec="png")) for i in range(COUNT)]
    made = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pictures)],
            "label": [i % 2 for i in range(COUNT)],
            "boxes": [[[i, 1.5]] for i in range(COUNT)],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["cat", "dog"]),
                "boxes": [[datasets.Value("float32")]],
            }
        ),
    )
    made.save_to_disk(str(folder / "one"), num_shards=2)
    datasets.DatasetDict({"train": made, "test": made.select(range(3))}).save_to_disk(str(folder / "both"))
    return folder


def test_rows_come_with_columns_and_names_of_classes(saved: Path) -> None:
    store = open_store(str(saved / "one"))
    assert store.form == "arrow"
    assert features_of(store.schema)["label"]["names"] == ["cat", "dog"]
    assert store.rows == COUNT
    rows = read_rows([piece._replace(start=piece.start + 2) for piece in store.ranges])
    assert rows["label"].to_pylist() == [i % 2 for i in range(COUNT) if i not in (0, 1, 13, 14)]
    assert rows["boxes"].to_pylist()[0] == [[2.0, 1.5]]
    assert rows["key"].to_pylist()[0] == "data-00000-of-00002.arrow#000000002"
    assert set(rows[SHARD].to_pylist()) == {f"data-0000{i}-of-00002.arrow" for i in range(2)}
    assert images.decode(rows["image"].to_pylist()[0]["bytes"]).pixels.tolist() == corpus.picture(2).tolist()


def test_it_is_packed_and_verified(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "out")
    assert pack.main(["--input", str(saved / "one"), "--output", output, "--local", "--limits.rows", "10"]) == 0
    assert [row["label"] for row in corpus.rows(output)] == [i % 2 for i in range(COUNT)]
    assert verify.main(["--input", output]) == 0
    assert f"{COUNT} inputs = {COUNT} ok" in capsys.readouterr().out
    loaded = datasets.load_dataset(output, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features["label"].names == ["cat", "dog"]


def test_of_several_splits_one_has_to_be_given(saved: Path) -> None:
    both = saved / "both"
    with pytest.raises(UserError, match=rf"give one of them: {both}/train, {both}/test"):
        open_store(str(both))
    assert open_store(f"{both}/test").rows == 3
    assert open_store(f"{both}/*").rows == COUNT + 3


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "no state.json"),
        ({"_data_files": [{"filename": "data-00000-of-00002.arrow"}]}, "has besides the files .* data-00001"),
        ({"_data_files": [{"filename": f"data-0000{i}-of-00002.arrow"} for i in range(3)]}, "lacks data-00002"),
        ({"_indices_data_files": [{"filename": "indices.arrow"}]}, "flatten_indices"),
    ],
)
def test_what_is_no_whole_data_set_is_refused(saved: Path, tmp_path: Path, state: object, message: str) -> None:
    for file in (saved / "one").glob("*.arrow"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if state is not None:
        (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=message):
        open_store(str(tmp_path))


@given(
    sizes=st.lists(st.integers(0, 5), max_size=5), is_file=st.booleans(), compression=st.sampled_from([None, "zstd"])
)
@settings(max_examples=60)
def test_batches_of_a_stream_or_file_are_found(sizes: list[int], is_file: bool, compression: str | None) -> None:
    words = pa.array(["x", None, "y"]).dictionary_encode()
    table = pa.table(
        {
            "n": range(5),
            "word": pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0, 1]), words.dictionary.take([0, 1, 0])),
        }
    )
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if is_file else pa.ipc.new_stream)(sink, table.schema, options=options) as writer:
        for size in sizes:
            for batch in table.slice(0, size).to_batches():
                writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    found = batches_of(in_memory(data), len(data))
    assert found.rows.tolist() == [size for size in sizes if size]
    for offset, size, rows in zip(found.offset, found.size, found.rows, strict=True):
        assert found.table(data[offset : offset + size]).to_pylist() == table.slice(0, rows).to_pylist()
    assert found.schema == table.schema
    for cut in range(0, len(data) - 10, 37):
        try:
            fewer = batches_of(in_memory(data[:cut]), cut)
        except ArrowError:
            continue
        assert fewer.rows.tolist() == found.rows.tolist()  # of a file, only its table of contents is cut
