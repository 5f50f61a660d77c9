"""Training stores of what people have: parallel folders, labels, splits, sizes; nothing is left out in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle

from jobs import pack, verify
from pipeline import failpoints, images, storage
from pipeline.config import parse
from pipeline.errors import UserError
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs
from pipeline.pack.rows import Shape
from tests import corpus
from tests.conftest import new_prefix


@pytest.fixture(params=["local", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("memory", "s3"))])
def any_prefix(request: pytest.FixtureRequest) -> str:
    """Return a prefix that nobody has used, on a local disk; in memory and on S3 among the long tests."""
    return new_prefix(request.param, request)


def run(source: str, output: str, *options: str) -> int:
    return pack.main(["--input", source, "--output", output, "--local", "--limits.rows", "4", *options])


def png(seed: int, height: int = 24, width: int = 24) -> bytes:
    return images.encode(corpus.picture(seed, height, width), images.Encoding(codec="png"))


def write(url: str, *names: str, height: int = 24) -> str:
    for name in names:
        storage.replace(f"{url}/{name}", png(sum(map(ord, name)), height))
    return url


def account(output: str) -> dict[str, int]:
    said = json.loads(storage.read(f"{output}/_SUCCESS"))
    return {name: said[name] for name in ("inputs", "ok", "quarantined", "skipped")}


def quarantined(output: str) -> dict[str, str]:
    return {row["key"]: row["reason"] for row in corpus.rows_below(f"{output}/_quarantine", ["key", "reason"])}


class TestTrees:
    @pytest.fixture
    def trees(self, any_prefix: str) -> tuple[str, str]:
        a = write(f"{any_prefix}/a", "x/1.png", "x/2.png", "3.png", "only_a.png")
        b = write(f"{any_prefix}/b", "x/1.jpg", "x/2.webp", "3.png", "only_b.png", height=12)
        for name in ("x/1.jpg", "x/2.webp", "3.png"):
            storage.replace(f"{b}/{name}", png(1, 12, 12))
        storage.replace(f"{b}/3.png", png(1, 12, 20))
        return a, b

    def test_pairs_keep_their_bytes_and_what_is_alone_is_counted_and_named(
        self, trees: tuple[str, str], any_prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (a, b), output = trees, f"{any_prefix}/out"
        assert run(a, output, "--layout", "trees", "--input_b", b, "--budget.on_budget", "finish") == 0
        said = caplog.text
        assert "1 image files of A without a partner, such as only_a.png" in said
        assert "1 image files of B without a partner, such as only_b.png" in said
        rows = {row["key"]: row for row in corpus.rows(output)}
        assert rows.keys() == {"x/1", "x/2"}
        for key, name_a, name_b in (("x/1", "x/1.png", "x/1.jpg"), ("x/2", "x/2.png", "x/2.webp")):
            assert rows[key]["image_a"]["bytes"] == storage.read(f"{a}/{name_a}")
            assert rows[key]["image_b"]["bytes"] == storage.read(f"{b}/{name_b}")
            assert (rows[key]["width"], rows[key]["height"]) == (24, 24)
        assert quarantined(output) == {"3": "not a pair"}
        assert account(output) == {"inputs": 3, "ok": 2, "quarantined": 1, "skipped": 0}
        listed = storage.read(f"{output}/_transdomain/without_partner.csv").decode().splitlines()
        assert listed[1:] == ['"a","only_a.png","no partner"', '"b","only_b.png","no partner"']
        assert verify.main(["--input", output]) == 0

    def test_metadata_of_a_side_are_named_with_what_joins_them(
        self, trees: tuple[str, str], any_prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (a, b), output = trees, f"{any_prefix}/out"
        storage.replace(
            f"{a}/metadata.csv", b"file_name,label\nx/1.png,one\nx/2.png,two\n3.png,three\nonly_a.png,four\n"
        )
        options = ("--layout", "trees", "--input_b", b, "--budget.on_budget", "finish")
        assert run(a, output, *options) == 0
        assert (
            f"metadata files in {a} (give the columns of one to pairs by --labels and --labels_match stem)"
            in caplog.text
        )
        assert "label" not in corpus.rows(output)[0]
        joined = ("--labels", f"{a}/metadata.csv", "--labels_match", "stem")
        assert run(a, f"{any_prefix}/joined", *options, *joined) == 0
        assert {row["key"]: row["label"] for row in corpus.rows(f"{any_prefix}/joined")} == {"x/1": "one", "x/2": "two"}

    def test_a_partner_that_comes_later_is_a_further_segment(self, trees: tuple[str, str], any_prefix: str) -> None:
        (a, b), output = trees, f"{any_prefix}/out"
        options = ("--layout", "trees", "--input_b", b, "--budget.on_budget", "finish")
        assert run(a, output, *options) == 0
        write(b, "only_a.png")
        assert run(a, output, *options) == 0
        assert account(output) == {"inputs": 4, "ok": 3, "quarantined": 1, "skipped": 0}
        assert b"only_a" not in storage.read(f"{output}/_transdomain/without_partner.csv")
        assert verify.main(["--input", output]) == 0

    def test_a_changed_partner_is_not_taken_for_the_planned_one(
        self, trees: tuple[str, str], any_prefix: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (a, b), output = trees, f"{any_prefix}/out"
        options = ("--layout", "trees", "--input_b", b, "--budget.on_budget", "finish")
        assert run(a, output, *options) == 0
        storage.replace(f"{b}/x/1.jpg", png(9, 36, 36))
        assert run(a, output, *options) == 2
        assert "1 inputs have changed since they were planned" in capsys.readouterr().err

    def test_inputs_that_do_not_fit_are_refused(
        self, trees: tuple[str, str], any_prefix: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        a, b = trees
        for second, output, options, expected in (
            (b, f"{any_prefix}/b/out", (), "is inside of"),
            (b, f"{any_prefix}/out", ("--pair_by", "(q)"), "no two files have the same key"),
            (b, f"{any_prefix}/out", ("--pair_by", "q"), "has no group"),
            (b, f"{any_prefix}/out", ("--pair_by", "(q"), "no regular expression"),
            (write(f"{any_prefix}/c", "x/1.png", "x/1.jpg"), f"{any_prefix}/out", (), "2 files for the key 'x/1'"),
        ):
            assert run(a, output, "--layout", "trees", "--input_b", second, *options) == 2
            assert expected in capsys.readouterr().err


class TestLabels:
    @pytest.fixture
    def labels(self, any_prefix: str) -> str:
        write(f"{any_prefix}/in", *(f"{i}.png" for i in range(9)))
        rows = [f"{i}.png,{'rain' if i % 2 else 'sun'},00{i}" for i in (*range(1, 9), 77)]
        storage.replace(f"{any_prefix}/labels.csv", "\n".join(["key,weather,code", *rows]).encode())
        return f"{any_prefix}/labels.csv"

    def test_rows_go_with_their_images_and_the_others_are_said(
        self, labels: str, any_prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        output = f"{any_prefix}/out"
        assert run(f"{any_prefix}/in", output, "--labels", labels) == 0
        said = caplog.text
        assert "8 images have a row in labels.csv; 1 have none, such as 0.png, and their labels are null" in said
        assert "1 rows of labels.csv without an image, such as 77.png" in said
        rows = {row["key"]: (row["weather"], row["code"]) for row in corpus.rows(output)}
        assert rows == {"0.png": (None, None)} | {
            f"{i}.png": ("rain" if i % 2 else "sun", f"00{i}") for i in range(1, 9)
        }
        assert "8 images have a row" in storage.read(f"{output}/_transdomain/report.html").decode()
        assert verify.main(["--input", output]) == 0

    def test_new_images_have_the_labels_of_a_new_file_and_the_old_ones_keep_theirs(
        self, labels: str, any_prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        output = f"{any_prefix}/out"
        assert run(f"{any_prefix}/in", output, "--labels", labels) == 0
        write(f"{any_prefix}/in", "new.png")
        storage.replace(labels, b"key,weather,code\nnew.png,snow,1x\n1.png,snow,1x\n")
        assert run(f"{any_prefix}/in", output, "--labels", labels) == 0
        assert "images that are packed already keep their labels" in caplog.text
        rows = {row["key"]: row["weather"] for row in corpus.rows(output, ["key", "weather"])}
        assert (rows["new.png"], rows["1.png"], len(rows)) == ("snow", "rain", 10)
        assert verify.main(["--input", output]) == 0

    def test_columns_that_would_clash_are_refused(
        self, labels: str, any_prefix: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for head in ("image", "image_a", "width"):
            storage.replace(labels, f"key,{head}\n1.png,x\n".encode())
            assert run(f"{any_prefix}/in", f"{any_prefix}/out", "--labels", labels) == 2
            assert f"columns {head} would clash" in capsys.readouterr().err

    def test_a_store_has_labels_by_its_keys(self, labels: str, any_prefix: str) -> None:
        assert run(f"{any_prefix}/in", f"{any_prefix}/store") == 0
        assert run(f"{any_prefix}/store", f"{any_prefix}/out", "--labels", labels) == 0
        assert run(f"{any_prefix}/store", f"{any_prefix}/out", "--labels", labels) == 0
        assert sum(row["weather"] is None for row in corpus.rows(f"{any_prefix}/out")) == 1

    @pytest.mark.parametrize(
        "point",
        [
            "after plan",
            *(pytest.param(p, marks=pytest.mark.long) for p in ("before plan", "after data", "before success")),
        ],
    )
    def test_killed_anywhere_the_same_command_gives_the_same_labels(
        self, labels: str, any_prefix: str, monkeypatch: pytest.MonkeyPatch, point: str
    ) -> None:
        whole, killed = f"{any_prefix}/whole", f"{any_prefix}/killed"
        assert run(f"{any_prefix}/in", whole, "--labels", labels) == 0

        def die(name: str) -> None:
            if name == point:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", die)
            assert run(f"{any_prefix}/in", killed, "--labels", labels) == 130
        assert run(f"{any_prefix}/in", killed, "--labels", labels) == 0
        assert corpus.contents(killed) == corpus.contents(whole)


class TestSplits:
    @pytest.fixture
    def source(self, any_prefix: str) -> str:
        return write(f"{any_prefix}/in", *(f"{i}.png" for i in range(9)))

    def keys(self, output: str) -> dict[str, set[str]]:
        names = {entry.name.split("/")[0] for entry in storage.list_files(output)}
        return {name: {row["key"] for row in corpus.rows(f"{output}/{name}", ["key"])} for name in names}

    def test_a_list_makes_a_store_for_each_split(
        self, source: str, any_prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        lines = [f"{i}.png,{'test' if i < 3 else 'train'}" for i in (*range(8), 99)]
        storage.replace(f"{any_prefix}/list.csv", "\n".join(["key,split", *lines]).encode())
        output = f"{any_prefix}/out"
        assert run(source, output, "--split_file", f"{any_prefix}/list.csv") == 0
        said = caplog.text
        assert "1 images without a value in column split of list.csv, in no split, such as 8.png" in said
        assert "1 rows of list.csv without an image, such as 99.png" in said
        assert "a store for each of 2 values: test, train" in said
        expected = {"test": {f"{i}.png" for i in range(3)}, "train": {f"{i}.png" for i in range(3, 8)}}
        assert self.keys(output) == expected
        assert account(f"{output}/test") == {"inputs": 3, "ok": 3, "quarantined": 0, "skipped": 0}
        assert verify.main(["--input", f"{output}/train"]) == 0

    def test_a_list_that_moves_an_image_is_another_recipe(
        self, source: str, any_prefix: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        storage.replace(f"{any_prefix}/list.csv", b"key,split\n0.png,train\n1.png,test\n")
        assert run(source, f"{any_prefix}/out", "--split_file", f"{any_prefix}/list.csv") == 0
        storage.replace(f"{any_prefix}/list.csv", b"key,split\n0.png,train\n1.png,train\n2.png,test\n")
        assert run(source, f"{any_prefix}/out", "--split_file", f"{any_prefix}/list.csv") == 2
        assert "was begun with other settings (split.list" in capsys.readouterr().err

    @pytest.mark.parametrize("on_changed", ["fail", "set_aside"])
    def test_a_column_of_a_store_makes_a_store_for_each_value(self, tmp_path: Path, on_changed: str) -> None:
        picture = {"bytes": png(1), "path": None}
        values = ["sun", "rain", None, "sun", "rain", "sun"]
        table: dict[str, Any] = {"key": list("abcdef"), "image": [picture] * 6, "weather": values}
        (tmp_path / "in").mkdir()
        pq.write_table(pa.table(table).slice(0, 4), tmp_path / "in/0.parquet")
        pq.write_table(pa.table(table).slice(4), tmp_path / "in/1.parquet")
        output = str(tmp_path / "out")
        assert run(str(tmp_path / "in"), output, "--split_by", "weather", "--on_changed", on_changed) == 0
        assert self.keys(output) == {"sun": {"a", "d", "f"}, "rain": {"b", "e"}}
        assert account(f"{output}/sun") == {"inputs": 6, "ok": 3, "quarantined": 0, "skipped": 3}
        assert verify.main(["--input", f"{output}/sun"]) == 0

    def test_labels_and_lists_split_a_store_whose_keys_are_in_its_rows(self, source: str, any_prefix: str) -> None:
        assert run(source, f"{any_prefix}/store") == 0
        storage.replace(f"{any_prefix}/l.csv", b"key,group,split\n0.png,1,train\n1.png,2,test\n2.png,2,train\n")
        store, file = f"{any_prefix}/store", f"{any_prefix}/l.csv"
        assert run(store, f"{any_prefix}/by", "--labels", file, "--split_by", "group") == 0
        assert self.keys(f"{any_prefix}/by") == {"1": {"0.png"}, "2": {"1.png", "2.png"}}
        assert run(store, f"{any_prefix}/list", "--split_file", file) == 0
        assert self.keys(f"{any_prefix}/list") == {"train": {"0.png", "2.png"}, "test": {"1.png"}}

    @pytest.mark.parametrize(
        ("text", "options", "expected"),
        [
            ("key,split\n0.png,a/b\n", ("--split_file", "L"), "has the value 'a/b', which would name a folder"),
            ("key,split\nq,a\n", ("--split_file", "L"), "none of its 1 rows names an image"),
            ("key,part\n0.png,a\n", ("--split_file", "L"), "no column split; it has key, part"),
            ("key,x\n0.png,a\n", ("--labels", "L", "--split_by", "y"), "no column y to split by"),
            ("key,x\n0.png,1.5\n", ("--labels", "L", "--split_by", "x"), "is double, and a store is split by"),
        ],
    )
    def test_what_cannot_split_is_refused(
        self, tmp_path: Path, text: str, options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = write(str(tmp_path / "in"), "0.png")
        (tmp_path / "l.csv").write_text(text)
        given = [str(tmp_path / "l.csv") if option == "L" else option for option in options]
        assert run(source, str(tmp_path / "out"), *given) == 2
        assert expected in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_column_of_many_values_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = write(str(tmp_path / "in"), "0.png")
        many = [f"{i}.png" for i in range(101)]
        for name in many:
            (tmp_path / "in" / name).write_bytes(b"x")
        (tmp_path / "l.csv").write_text("key,n\n" + "".join(f"{name},{i}\n" for i, name in enumerate(many)))
        options = ("--labels", str(tmp_path / "l.csv"), "--split_by", "n")
        assert run(source, str(tmp_path / "out"), *options) == 2
        assert "has more than 100 values" in capsys.readouterr().err


class TestSizes:
    @pytest.mark.parametrize(
        ("resize", "crop", "expected"),
        [
            ((16,), "none", (16, 32)),
            ((20, 10), "none", (10, 20)),
            ((16,), "centre", (16, 16)),
            ((30, 60), "centre", (60, 30)),
        ],
    )
    def test_sizes(self, resize: tuple[int, ...], crop: Any, expected: tuple[int, int]) -> None:
        shape = Shape(resize, crop, images.Encoding(codec="png"))
        assert shape.shaped(corpus.picture(1, 24, 48)).shape[:2] == expected

    def test_the_centre_is_cut_out(self) -> None:
        pixels = np.zeros((10, 30, 3), np.uint8)
        pixels[:, 10:20] = 255
        assert (Shape((10,), "centre", images.Encoding(codec="png")).shaped(pixels) == 255).all()

    def test_resized_images_are_encoded_and_their_size_is_recorded(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write(str(tmp_path / "in"), "x.jpg", height=48)
        (tmp_path / "l.csv").write_text("key,boxes\nx.jpg,1\n")
        options = ("--resize", "12", "--labels", str(tmp_path / "l.csv"), "--encoding.codec", "webp")
        assert run(str(tmp_path / "in"), str(tmp_path / "out"), *options) == 0
        assert "columns boxes seem to be of places in the pictures" in caplog.text
        (row,) = corpus.rows(str(tmp_path / "out"))
        assert images.format_of(row["image"]["bytes"]) == "WEBP"
        assert images.decode(row["image"]["bytes"]).pixels.shape[:2] == (row["height"], row["width"]) == (24, 12)
        assert row["image"]["path"] == "x.webp"

    def test_halves_of_pairs_are_resized(self, tmp_path: Path) -> None:
        pair = np.concatenate([corpus.picture(1), corpus.picture(2)], axis=1)
        storage.replace(f"{tmp_path}/in/x.png", images.encode(pair, images.Encoding(codec="png")))
        assert run(str(tmp_path / "in"), str(tmp_path / "out"), "--layout", "pairs", "--resize", "12") == 0
        (row,) = corpus.rows(str(tmp_path / "out"))
        half = images.decode(row["image_b"]["bytes"]).pixels
        assert np.array_equal(half, images.resize(corpus.picture(2), 12, 12))


def test_workers_get_only_what_their_units_need(tmp_path: Path) -> None:
    """Neither the names of a source nor the rows of a file of labels travel to them."""
    lengths = []
    for count in (10, 500):
        source = write(f"{tmp_path}/{count}", *(f"{i:03d}.png" for i in range(10)))
        for i in range(10, count):
            Path(source, f"{i:03d}.png").write_bytes(b"x")
        rows = [f"{i:03d}.png,{i % 2}" for i in range(count)]
        (tmp_path / f"{count}.csv").write_text("\n".join(["key,split", *rows]))
        options = {"labels": f"{tmp_path}/{count}.csv", "split_by": "split"}
        (job, _) = pack_jobs(PackConfig(input=source, output=f"{tmp_path}/out{count}", **options))
        lengths.append(len(cloudpickle.dumps(job.workloads[0].stages)))
    assert lengths[1] < lengths[0] + 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--layout", "trees"), "take --input and --input_b"),
        (("--split", "a", "1", "--split_by", "x"), "--split and --split_by are several ways to split"),
        (("--labels_key", "x"), "say how to join --labels"),
        (("--pair_by", "(x)"), "belongs to --layout trees"),
        (("--crop", "centre"), "add --resize"),
        (("--encoding.codec", "jpeg"), "add --resize"),
        (("--resize", "1", "2", "3"), "give one length, N, or width and height"),
        (("--resize", "0"), "at least 1"),
        (("--layout", "pairs", "--resize", "8", "--encoding.codec", "jpeg"), "give --pair_encoding"),
        (("--layout", "unpaired", "--input_b", "b", "--labels", "l.csv"), "pack each domain by itself"),
    ],
)
def test_options_that_do_not_fit_together(options: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        parse(PackConfig, ["--input", "a", "--output", "o", *options], prog="pack", description="")


HINT = ", and 3 channels of 8 bits are wanted; --pixels any takes it as it is"


class TestPixels:
    @pytest.fixture
    def mixed(self, any_prefix: str) -> dict[str, np.ndarray]:
        """Write images of four types into PREFIX/in."""
        rng = np.random.default_rng(0)
        made = {
            "grey16.png": rng.integers(0, 65536, (8, 12, 1), np.uint16),
            "five.tif": rng.integers(0, 65536, (8, 12, 5), np.uint16),
            "grey.png": rng.integers(0, 256, (8, 12, 1), np.uint8),
            "rgb.png": rng.integers(0, 256, (8, 12, 3), np.uint8),
        }
        for name, pixels in made.items():
            codec: images.CodecName = "tiff" if name.endswith("tif") else "png"
            storage.replace(f"{any_prefix}/in/{name}", images.encode(pixels, images.Encoding(codec=codec)))
        return made

    def test_other_types_than_rgb_are_named(self, any_prefix: str, mixed: dict[str, np.ndarray]) -> None:
        assert run(f"{any_prefix}/in", f"{any_prefix}/out") == 0
        rows = corpus.rows_below(f"{any_prefix}/out/_quarantine", ["key", "reason", "message"])
        assert {row["key"]: (row["reason"], row["message"]) for row in rows} == {
            "grey16.png": (
                "unsupported type",
                "PNG has 1 channel of 16 bits" + HINT,
            ),
            "five.tif": (
                "unsupported type",
                "TIFF has 5 channels of 16 bits" + HINT,
            ),
        }

    def test_any_type_keeps_its_bytes(self, any_prefix: str, mixed: dict[str, np.ndarray]) -> None:
        assert run(f"{any_prefix}/in", f"{any_prefix}/out", "--pixels", "any") == 0
        rows = {row["key"]: row for row in corpus.rows(f"{any_prefix}/out")}
        assert rows.keys() == mixed.keys()
        for name, pixels in mixed.items():
            data = rows[name]["image"]["bytes"]
            assert data == storage.read(f"{any_prefix}/in/{name}")
            assert np.array_equal(images.decode(data, wanted=None).pixels, pixels)
            assert (rows[name]["width"], rows[name]["height"]) == (12, 8)
        assert verify.main(["--input", f"{any_prefix}/out", "--source"]) == 0

    def test_types_survive_a_resize_where_the_codec_holds_them(
        self, any_prefix: str, mixed: dict[str, np.ndarray]
    ) -> None:
        options = ("--pixels", "any", "--resize", "6", "4")
        assert run(f"{any_prefix}/in", f"{any_prefix}/png", *options) == 0
        assert quarantined(f"{any_prefix}/png") == {"five.tif": "unsupported type"}
        assert run(f"{any_prefix}/in", f"{any_prefix}/tiff", *options, "--encoding.codec", "tiff") == 0
        for row in corpus.rows(f"{any_prefix}/tiff"):
            found = images.type_of(row["image"]["bytes"])
            assert found == images.PixelType.of(mixed[row["key"]])
            expected = images.resize(mixed[row["key"]], 6, 4)
            assert np.array_equal(images.decode(row["image"]["bytes"], wanted=None).pixels, expected)

    def test_pairs_of_16_bits_are_cut(self, any_prefix: str, mixed: dict[str, np.ndarray]) -> None:
        storage.replace(f"{any_prefix}/ab/1.png", storage.read(f"{any_prefix}/in/grey16.png"))
        assert run(f"{any_prefix}/ab", f"{any_prefix}/out", "--layout", "pairs", "--pixels", "any") == 0
        (row,) = corpus.rows(f"{any_prefix}/out")
        halves = [images.decode(row[name]["bytes"], wanted=None).pixels for name in ("image_a", "image_b")]
        assert np.array_equal(np.concatenate(halves, 1), mixed["grey16.png"])


def test_the_recipe_of_what_was_packed_before_is_the_same() -> None:
    """Outputs of earlier versions go on: their recipe names nothing that they did not use."""
    config = PackConfig(input="in", output="out")
    from pipeline.pack.job import _recipe
    from pipeline.pack.splits import Part

    recipe = _recipe(config, Part("", None), None, None)  # type: ignore[arg-type]
    assert recipe.keys() == {"layout", "split", "pair_encoding", "versions"}
    assert (recipe["split"], recipe["pair_encoding"]) == (None, None)
    assert "labels" not in recipe["versions"]


@pytest.mark.long
def test_on_ray_as_in_the_loop(tmp_path: Path) -> None:
    a, b = (write(f"{tmp_path}/{tree}", *(f"{i}.png" for i in range(9))) for tree in "ab")
    (tmp_path / "l.csv").write_text("key,weather,split\n" + "".join(f"{i},w{i % 2},s{i % 3}\n" for i in range(8)))
    options = ["--input", a, "--layout", "trees", "--input_b", b, "--labels", f"{tmp_path}/l.csv", "--limits.rows", "2"]
    options += ["--split_by", "split", "--resize", "16"]
    assert pack.main([*options, "--output", f"{tmp_path}/loop", "--local"]) == 0
    assert pack.main([*options, "--output", f"{tmp_path}/ray"]) == 0
    for split in ("s0", "s1", "s2"):
        assert corpus.contents(f"{tmp_path}/ray/{split}") == corpus.contents(f"{tmp_path}/loop/{split}")
