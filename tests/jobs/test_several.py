"""Several translators in one pass: the same pixels as runs of their own, one decode, and chains of models."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.dataset
import pyarrow.parquet
import pytest
import yaml

from jobs import translate, verify
from pipeline import failpoints, images, storage
from pipeline.cluster import host
from pipeline.engine.executors import local
from pipeline.engine.executors.halving import in_halves
from pipeline.engine.publishing import reading
from pipeline.engine.publishing.steps import Carry, Stage, Task, make_step
from pipeline.engine.records import layout
from pipeline.engine.records.layout import Output, load_segments, load_units
from pipeline.errors import UserError
from pipeline.models.bundles import describe
from pipeline.recipe import models_of
from pipeline.translate.config import TranslateConfig
from pipeline.translate.naming import Wanted, names_of, wanted_models
from pipeline.translation.stages import Decode
from tests import corpus
from tests.jobs.test_one_output import end_at, last_line
from tests.jobs.test_scores import write_cyclegan

SIDE = 24
NAMES = ["back", "there", "wet"]
PLAIN = ["--limits.rows", "5", "--encoding.codec", "png", "--precision", "fp32", "--trunk", "direct", "--local"]


class Ground:
    """Folder of images, with three bad ones, and a CycleGAN and a pix2pix to translate it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = corpus.write_folder(str(folder / "in"), 7, height=SIDE, width=SIDE + 8)
        self.cyclegan = write_cyclegan(str(folder / "summer/bundle"))
        self.pix2pix = corpus.write_bundle(str(folder / "rain/bundle"), size=40)
        self.singles = {
            "there": [self.cyclegan, "--direction", "a_to_b"],
            "back": [self.cyclegan, "--direction", "b_to_a"],
            "wet": [self.pix2pix],
        }
        self.file = folder / "translators.yaml"
        self.file.write_text(
            yaml.safe_dump(
                {
                    "translators": {
                        "wet": {"bundle": self.pix2pix},
                        "there": {"bundle": self.cyclegan},
                        "back": {"bundle": self.cyclegan, "direction": "b_to_a"},
                    }
                }
            )
        )
        self.all = ["--config", str(self.file)]

    def run(self, output: str, *options: str, source: str = "") -> int:
        return translate.main(
            ["--input", source or self.source, "--output", str(self.folder / output), *PLAIN, *options]
        )

    def rows(self, output: str) -> list[dict[str, Any]]:
        return corpus.rows(str(self.folder / output))

    def pixels(self, output: str) -> dict[tuple[str, str], bytes]:
        """Return the pixels of each translation, by translator and key of its source."""
        return {
            (row.get("translator", ""), row["source_key"]): images.decode(row["image"]["bytes"]).pixels.tobytes()
            for row in self.rows(output)
        }


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="module")
def whole(ground: Ground) -> str:
    """Return the output of three translators, made without a stop."""
    assert ground.run("whole", *ground.all) == 0
    return str(ground.folder / "whole")


class Work:
    """Images that are decoded to be translated, and rows that are read from the source."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded, self.read = Counter[str](), Counter[str]()
        decode, read = Decode._each_decoded, reading.read_rows

        def counted_decode(stage: Decode, batch: Any, *room: Any) -> Any:
            self.decoded.update(batch.rows["key"].to_pylist())
            return decode(stage, batch, *room)

        def counted_read(ranges: Any, *arguments: Any, **options: Any) -> Any:
            self.read.update(each.shard for each in ranges)
            return read(ranges, *arguments, **options)

        monkeypatch.setattr(Decode, "_each_decoded", counted_decode)
        monkeypatch.setattr(reading, "read_rows", counted_read)


def test_one_pass_gives_the_pixels_of_a_run_for_each_and_reads_and_decodes_once(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work(monkeypatch)
    assert ground.run("counted", *ground.all) == 0
    assert "21 images of 10 inputs, 9 quarantined (an input once for each translator)" in capsys.readouterr().out
    assert set(work.decoded) == set(work.read) == {e.name for e in storage.list_files(ground.source)}
    assert {*work.decoded.values(), *work.read.values()} == {1}
    alone = {}
    for name, options in ground.singles.items():
        assert ground.run(f"alone-{name}", "--bundle", *options) == 0
        alone |= {(name, key): pixels for (_, key), pixels in ground.pixels(f"alone-{name}").items()}
    assert ground.pixels("counted") == alone
    assert len(alone) == 21
    assert len(set(alone.values())) == 21


def test_each_translator_has_a_part_that_readers_know(ground: Ground, whole: str) -> None:
    assert verify.main(["--input", whole]) == 0
    assert sorted(path.name for path in Path(whole, "data").iterdir()) == [f"translator={name}" for name in NAMES]
    rows = ground.rows("whole")
    assert {row["key"] for row in rows} == {f"{row['translator']}/{row['source_key']}" for row in rows}
    assert {row["translator"]: row["model"] for row in rows} == {
        "back": describe(ground.cyclegan).sha256,
        "there": describe(ground.cyclegan).sha256,
        "wet": describe(ground.pix2pix).sha256,
    }
    for read in (pyarrow.dataset.dataset(f"{whole}/data").to_table(), pyarrow.parquet.read_table(f"{whole}/data")):
        assert Counter(read["translator"].to_pylist()) == dict.fromkeys(NAMES, 7)
    loaded = datasets.load_dataset(whole, split="train", cache_dir=str(ground.folder / "cache"))
    assert Counter(loaded["translator"]) == dict.fromkeys(NAMES, 7)
    units = list(load_units(Output(whole), 0))
    parts = [[unit.ranges for unit in units if unit.part == f"translator={name}"] for name in NAMES]
    assert parts[0] == parts[1] == parts[2]
    report = Path(whole, "_transdomain/report.html").read_text()
    assert all(f"arithmetic of {name}" in report for name in NAMES)
    card = Path(whole, "README.md").read_text()
    assert "Translated by back (b_to_a), there (a_to_b), wet (a_to_b)" in card
    assert "30 inputs, each once for every translator: 21 in `data/`, 9 quarantined" in card


ONCE = ["before plan", "after plan", "before manifest", "after manifest", "before success", "after success"]
EACH_UNIT = ["before data", "after data", "after quarantine", "after commit"]


@pytest.mark.parametrize(
    ("point", "place"),
    [
        ("after data", 2),
        *(pytest.param(point, 1, marks=pytest.mark.long) for point in (*ONCE, *EACH_UNIT)),
        *(
            pytest.param(point, place, marks=pytest.mark.long)
            for point in EACH_UNIT
            for place in (2, 3, 4)
            if (point, place) != ("after data", 2)
        ),
    ],
)
def test_ended_anywhere_and_run_again_it_gives_the_same_bytes(
    ground: Ground, whole: str, point: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second time on that a point is reached, a unit of the same range has been committed."""
    output, left, ended = f"ended-{point}-{place}", iter(range(place - 1)), end_at(point)
    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", lambda name: None if name == point and next(left, -1) >= 0 else ended(name))
        assert ground.run(output, *ground.all) == 1
    assert ground.run(output, *ground.all) == 0
    assert corpus.contents(str(ground.folder / output)) == corpus.contents(whole)


def test_killed_between_two_units_of_a_range_it_decodes_again_for_the_missing_ones_alone(
    ground: Ground, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        **os.environ,
        "TRANSDOMAIN_CRASH": "after commit",
        "TRANSDOMAIN_CRASH_TOKEN": str(ground.folder / "t"),
    }
    command = [sys.executable, "-m", "jobs.translate", "--input", ground.source, "--output", "killed", *PLAIN]
    command[command.index("killed")] = str(ground.folder / "killed")
    killed = subprocess.run([*command, *ground.all], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    output = Output(str(ground.folder / "killed"))
    [made] = output.committed()
    work, commits = Work(monkeypatch), list[str]()
    monkeypatch.setattr(storage, "create", noted(storage.create, commits))
    assert ground.run("killed", *ground.all) == 0
    assert {*work.decoded.values()} == {1}
    assert len(work.decoded) == 10  # of its range the other two translators are left
    assert len(output.committed()) == 6
    assert not [url for url in commits if made in url]
    assert corpus.contents(output.url) == corpus.contents(whole)


def noted(create: Any, urls: list[str]) -> Any:
    def note(url: str, data: bytes) -> bool:
        urls.append(url)
        return create(url, data)

    return note


@pytest.mark.long
def test_what_one_translator_has_made_is_not_decoded_for_again(
    ground: Ground, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges of which all units are committed are not touched; those of which one is missing are decoded once."""
    output = Output(str(ground.folder / "holes"))
    assert ground.run("holes", *ground.all) == 0
    units = {unit.id: unit for unit in load_units(output, 0)}
    lost = next(unit for unit in units.values() if unit.part.endswith("wet"))
    for url in (output.success, output.commit(lost.id), output.quarantine(lost.id)):
        storage.delete(url)
    storage.delete(output.at(f"data/{lost.part}/{lost.id}.parquet"))
    work = Work(monkeypatch)
    assert ground.run("holes", *ground.all) == 0
    assert work.decoded == Counter(each.shard for each in lost.ranges)
    assert corpus.contents(output.url) == corpus.contents(whole)


@pytest.mark.parametrize("decoded_mb", ["0.02", pytest.param("1e-6", marks=pytest.mark.long)])
def test_an_output_does_not_depend_on_what_is_held_at_once(ground: Ground, whole: str, decoded_mb: str) -> None:
    output = f"held-{decoded_mb}"
    assert ground.run(output, *ground.all, "--limits.decoded_mb", decoded_mb) == 0
    assert ground.pixels(output) == ground.pixels("whole")


@pytest.mark.long
def test_the_order_of_the_translators_in_the_file_does_not_matter(ground: Ground, whole: str) -> None:
    """Otherwise a run that goes on would take the units of one for those of another."""
    names = reversed(yaml.safe_load(ground.file.read_text())["translators"].items())
    reversed_file = ground.folder / "reversed.yaml"
    reversed_file.write_text(yaml.safe_dump({"translators": dict(names)}, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "point", end_at("after commit"))
        assert ground.run("order", *ground.all) == 1
    assert ground.run("order", "--config", str(reversed_file)) == 0
    assert corpus.contents(str(ground.folder / "order")) == corpus.contents(whole)


@pytest.mark.long
def test_new_inputs_are_a_further_segment(ground: Ground, tmp_path: Path) -> None:
    grows = Ground(tmp_path)
    assert grows.run("out", *grows.all) == 0
    data = images.encode(corpus.picture(77, SIDE, SIDE), images.Encoding(codec="png"))
    storage.replace(storage.join(grows.source, "new.png"), data)
    assert grows.run("out", *grows.all) == 0
    assert len(load_segments(Output(str(tmp_path / "out")))) == 2
    assert len(grows.pixels("out")) == 24
    assert verify.main(["--input", str(tmp_path / "out")]) == 0


def test_both_directions_and_bundles_named_after_their_folders(ground: Ground, whole: str) -> None:
    assert ground.run("both", "--bundle", ground.cyclegan, "--direction", "both") == 0
    assert ground.run("two", "--bundle", ground.cyclegan, ground.pix2pix) == 0
    expected = ground.pixels("whole")
    for output, names in (
        ("both", {"a_to_b": "there", "b_to_a": "back"}),
        ("two", {"summer": "there", "rain": "wet"}),
    ):
        found = ground.pixels(output)
        assert {name for name, _ in found} == names.keys()
        assert all(pixels == expected[names[name], key] for (name, key), pixels in found.items())


def test_a_program_is_among_the_translators(ground: Ground) -> None:
    program = ground.folder / "inverted.yaml"
    said = {"program": "tests.programs:inverted", "version": 1, "channels": [3, 3], "value_range": [0, 1]}
    program.write_text(yaml.safe_dump(said | {"size_multiple": 1, "dtype": "uint8"}))
    file = ground.folder / "programs.yaml"
    models = {
        "once": {"bundle": str(program)},
        "twice": {"chain": [str(program)] * 2},
        "wet": {"bundle": ground.pix2pix},
    }
    file.write_text(yaml.safe_dump({"translators": models}))
    assert ground.run("program", "--config", str(file)) == 0
    found = ground.pixels("program")
    assert Counter(name for name, _ in found) == dict.fromkeys(models, 7)
    for (name, key), pixels in found.items():
        decoded = images.decode((Path(ground.source) / key).read_bytes()).pixels
        if name != "wet":
            assert pixels == (255 - decoded if name == "once" else decoded).tobytes()


@pytest.mark.long
def test_scores_and_conditions_are_each_translators_own(ground: Ground) -> None:
    both = ["--bundle", ground.cyclegan, "--direction", "both"]
    assert ground.run("unfiltered", *both, "--score", "cycle_l1") == 0
    median = statistics.median(row["cycle_l1"] for row in ground.rows("unfiltered"))
    scored = ["--score", "cycle_l1", "realism", "--keep_if", f"cycle_l1 < {median}"]
    assert ground.run("scored", *both, *scored) == 0
    rows = ground.rows("scored")
    assert len(rows) == 7
    for direction in ("a_to_b", "b_to_a"):
        assert ground.run(direction, "--bundle", ground.cyclegan, "--direction", direction, *scored) == 0
        alone = {row["source_key"]: (row["cycle_l1"], row["realism"]) for row in ground.rows(direction)}
        found = [row for row in rows if row["translator"] == direction]
        assert {row["source_key"]: (row["cycle_l1"], row["realism"]) for row in found} == alone
    assert verify.main(["--input", str(ground.folder / "scored")]) == 0
    assert "Scores" in (ground.folder / "scored/_transdomain/report.html").read_text()


def source_of_sizes(ground: Ground, name: str) -> str:
    """Write images that are larger or smaller than the 32² and 40² pixels of the two trainings."""
    source = str(ground.folder / name)
    for i, (height, width) in enumerate([(28, 60), (40, 40), (70, 35)]):
        data = images.encode(corpus.picture(i, height, width), images.Encoding(codec="png"))
        storage.replace(storage.join(source, f"{i}.png"), data)
    return source


SIZES = ["original", *(pytest.param(size, marks=pytest.mark.long) for size in ("native", "training"))]


@pytest.mark.parametrize("size", SIZES)
def test_a_chain_is_two_runs_through_lossless_files(ground: Ground, size: str) -> None:
    source, options = source_of_sizes(ground, f"in-{size}"), ["--size", size]
    assert ground.run(f"first-{size}", "--bundle", ground.cyclegan, *options, source=source) == 0
    between = str(ground.folder / f"first-{size}/data")
    assert ground.run(f"second-{size}", "--bundle", ground.pix2pix, *options, source=between) == 0
    assert ground.run(f"chain-{size}", "--chain", ground.cyclegan, ground.pix2pix, *options, source=source) == 0
    assert ground.pixels(f"chain-{size}") == ground.pixels(f"second-{size}")
    assert len(ground.pixels(f"chain-{size}")) == 3


@pytest.mark.long
@pytest.mark.parametrize("size", ["native", "training", "original"])
def test_each_translator_has_its_own_size(ground: Ground, size: str) -> None:
    """Models of unlike training sizes, and a chain of both, in one pass, whatever is held at once."""
    source, options, file = source_of_sizes(ground, f"own-{size}"), ["--size", size], ground.folder / "sizes.yaml"
    models = {"chain": ["--chain", ground.cyclegan, ground.pix2pix], "there": ["--bundle", ground.cyclegan]}
    models |= {"wet": ["--bundle", ground.pix2pix]}
    translators = {name: {way[2:]: of if len(of) > 1 else of[0]} for name, (way, *of) in models.items()}
    file.write_text(yaml.safe_dump({"translators": translators}))
    expected = {}
    for name, model in models.items():
        assert ground.run(f"own-{name}-{size}", *model, *options, source=source) == 0
        expected |= {(name, key): pixels for (_, key), pixels in ground.pixels(f"own-{name}-{size}").items()}
    for i, held in enumerate(([], ["--limits.decoded_mb", "0.01"])):
        assert ground.run(f"own-{size}-{i}", "--config", str(file), *options, *held, source=source) == 0
        assert ground.pixels(f"own-{size}-{i}") == expected


def test_the_record_of_a_chain_has_its_models_in_order(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    chain = ["--chain", ground.cyclegan, ground.cyclegan, "--direction"]
    assert ground.run("cycle", *chain, "a_to_b", "b_to_a") == 0
    [segment] = load_segments(Output(str(ground.folder / "cycle")))
    assert [made["direction"] for made in models_of(segment.recipe).values()] == ["a_to_b", "b_to_a"]
    assert sorted(path.name for path in (ground.folder / "cycle/data").iterdir()) == [
        "000000-000000.parquet", "000000-000001.parquet"
    ]  # fmt: skip
    assert {row["model"].count("+") for row in ground.rows("cycle")} == {1}
    assert verify.main(["--input", str(ground.folder / "cycle")]) == 0
    assert "arithmetic of 2" in (ground.folder / "cycle/_transdomain/report.html").read_text()
    assert ground.run("cycle", *chain, "b_to_a", "a_to_b") == 2
    assert "was begun with other settings (chain.1.direction: a_to_b there, b_to_a now" in last_line(capsys)


@pytest.mark.long
def test_a_chain_writes_a_folder_of_images(ground: Ground) -> None:
    chain = ["--chain", ground.cyclegan, ground.pix2pix]
    assert ground.run("images", *chain, "--form", "folder") == 0
    assert ground.run("shards", *chain) == 0
    files = [e for e in storage.list_files(str(ground.folder / "images/data")) if e.name != "metadata.parquet"]
    assert {(entry.name, images.decode(storage.read(entry.url)).pixels.tobytes()) for entry in files} == {
        (f"{key}.png", pixels) for (_, key), pixels in ground.pixels("shards").items()
    }
    assert verify.main(["--input", str(ground.folder / "images")]) == 0


def test_the_record_of_one_bundle_is_as_it_was(ground: Ground) -> None:
    assert ground.run("one", "--bundle", ground.pix2pix) == 0
    [segment] = layout.load_segments(layout.Output(str(ground.folder / "one")))
    assert segment.recipe.keys() == {
        "model", "direction", "training_size", "arithmetic", "input_column", "keep_source", "size", "form", "encoding",
        "versions",
    }  # fmt: skip
    assert "translator" not in ground.rows("one")[0]


@pytest.mark.long
def test_a_translation_by_several_is_translated_again(ground: Ground, whole: str) -> None:
    again = f"{whole}/data"
    assert ground.run("again", "--bundle", ground.cyclegan, "--direction", "both", source=again) == 0
    rows = ground.rows("again")
    assert len(rows) == 42
    assert {(row["translator"], row["input_translator"]) for row in rows} == {
        (name, before) for name in ("a_to_b", "b_to_a") for before in NAMES
    }
    assert rows[0]["source_key"].startswith("back/")


class TestRefusals:
    """One line that says what to do, exit code 2, and nothing is written."""

    @pytest.fixture
    def refused(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> Any:
        def check(why: str, *options: str, source: str = "") -> None:
            assert ground.run("refused", *options, source=source) == 2
            said = capsys.readouterr().err.strip().splitlines()
            assert why in said[-1]
            assert not (ground.folder / "refused").exists()

        return check

    def test_models_that_are_not_there_or_said_twice(self, ground: Ground, refused: Any) -> None:
        refused("there is no model: give --bundle, --chain, or translators")
        refused("--bundle and --chain exclude each other", "--bundle", "a", "--chain", "b", "c")
        refused(f"--bundle has {ground.pix2pix} twice", "--bundle", ground.pix2pix, ground.pix2pix)
        refused("--chain has one model", "--chain", ground.pix2pix)
        refused("no model bundle there", "--bundle", ground.pix2pix, str(ground.folder / "nothing"))

    def test_equal_names(self, ground: Ground, refused: Any) -> None:
        others = [corpus.write_bundle(str(ground.folder / f"{place}/same")) for place in ("a", "b")]
        corpus.write_bundle(str(ground.folder / "c/other"))
        refused("would both be the translator same", "--bundle", *others, str(ground.folder / "c/other"))
        ground.folder.joinpath("twice.yaml").write_text(
            f"translators:\n  x: {{bundle: {others[0]}}}\n  x: {{bundle: {others[1]}}}\n"
        )
        refused("'x' is there twice", "--config", str(ground.folder / "twice.yaml"))

    def test_names_that_readers_would_take_for_numbers(self, ground: Ground, refused: Any) -> None:
        years = [corpus.write_bundle(str(ground.folder / year)) for year in ("2025", "2026")]
        refused("'2025', makes no name of a translator; name them", "--bundle", *years)
        ground.folder.joinpath("years.yaml").write_text(f"translators:\n  '2025': {{bundle: {years[0]}}}\n")
        refused("and not digits alone", "--config", str(ground.folder / "years.yaml"))

    def test_directions(self, ground: Ground, refused: Any) -> None:
        refused("has no generator b_to_a; it has a_to_b", "--bundle", ground.pix2pix, "--direction", "both")
        refused(
            "--direction has 2 values for 3 models",
            *("--chain", *[ground.cyclegan] * 3, "--direction", "a_to_b", "b_to_a"),
        )
        refused(
            "--direction both is for bundles",
            *("--chain", ground.cyclegan, ground.cyclegan, "--direction", "both"),
        )
        refused("--direction is for --bundle and --chain", *ground.all, "--direction", "a_to_b")
        with pytest.raises(SystemExit, match="2"):
            ground.run("refused", "--bundle", ground.cyclegan, "--direction", "sideways")

    def test_channels(self, ground: Ground, refused: Any) -> None:
        grey = corpus.write_bundle(str(ground.folder / "grey"), in_channels=1)
        refused("first images are RGB of 8 bits, and the model takes grey", "--chain", grey, ground.pix2pix)
        refused(f"gives RGB of 8 bits, and {grey} takes grey of 8 bits", "--chain", ground.pix2pix, grey)

    def test_scores_and_forms(self, ground: Ground, refused: Any) -> None:
        chain = ("--chain", ground.cyclegan, ground.pix2pix)
        refused("a chain has several; leave out --score", *chain, "--score", "realism")
        refused(f"{ground.pix2pix}: has no a_to_b discriminator", *ground.all, "--score", "realism")
        refused("use --form parquet with several", *ground.all, "--form", "folder")

    def test_columns(self, ground: Ground, refused: Any) -> None:
        from jobs import pack

        pairs = ground.folder / "pairs"
        pairs.mkdir()
        (pairs / "1.png").write_bytes(images.encode(corpus.picture(1, SIDE, 2 * SIDE), images.Encoding(codec="png")))
        paired = str(ground.folder / "paired")
        assert pack.main(["--input", str(pairs), "--output", paired, "--layout", "pairs", "--local"]) == 0
        both = ("--bundle", ground.cyclegan, "--direction", "both")
        refused("columns image_a, image_b could be translated", *both, source=paired)
        table = pyarrow.parquet.read_table(next(Path(paired, "data").glob("*.parquet")))
        named = str(ground.folder / "named.parquet")
        pyarrow.parquet.write_table(table.append_column("translator", pyarrow.array(["me"])), named)
        refused("column translator would be overwritten", *both, "--input_column", "image_a", source=named)


@pytest.mark.parametrize(
    ("bundles", "names"),
    [
        (["runs/night/bundle", "runs/rain/bundle"], ["night", "rain"]),
        (["night/bundle", "rain/model.pt2"], ["bundle", "model"]),
        (["s3://models/night", "s3://models/rain.onnx"], ["night", "rain"]),
        (["a/run 1/bundle/", "b/run 2/bundle"], ["run-1", "run-2"]),
        (["x/1/v/bundle", "x/2/v/bundle", "x/3/w/bundle"], None),
    ],
)
def test_names_of_bundles(bundles: list[str], names: list[str] | None) -> None:
    if names is None:
        with pytest.raises(UserError, match="would both be the translator v"):
            names_of(bundles)
    else:
        assert names_of(bundles) == names


def test_directions_are_one_for_all_or_one_for_each() -> None:
    def wanted(**options: Any) -> Any:
        return wanted_models(TranslateConfig(input="in", output="out", **options))

    assert wanted(bundle=("m",)) == {"": [Wanted("m", None)]}
    assert wanted(chain=("m", "n"), direction=("b_to_a",)) == {"": [Wanted("m", "b_to_a"), Wanted("n", "b_to_a")]}
    assert wanted(bundle=("n", "m"), direction=("a_to_b", "b_to_a")) == {
        "m": [Wanted("m", "b_to_a")], "n": [Wanted("n", "a_to_b")]
    }  # fmt: skip
    assert list(wanted(bundle=("n", "m"), direction=("both",))) == ["m-a_to_b", "m-b_to_a", "n-a_to_b", "n-b_to_a"]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_ray_gives_what_the_loop_gives(ground: Ground, whole: str) -> None:
    arguments = ["--input", ground.source, "--output", str(ground.folder / "ray"), *PLAIN, *ground.all]
    arguments.remove("--local")
    assert translate.main([*arguments, "--resources.threads", str(host.available_cpus())]) == 0
    assert corpus.contents(str(ground.folder / "ray")) == corpus.contents(whole)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", ["decode", "translate", "encode"])
def test_units_that_are_made_together_go_through_a_stage_in_halves_too(
    ground: Ground, whole: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def guard(task: Task, at: Stage) -> Iterator[Carry | None]:
        yield in_halves if at.name == stage else None

    monkeypatch.setattr(local, "make_step", lambda works, i, _: make_step(works, i, guard))
    assert ground.run(f"halves-{stage}", *ground.all) == 0
    assert corpus.contents(str(ground.folder / f"halves-{stage}")) == corpus.contents(whole)


@pytest.mark.long
def test_columns_of_geometry_follow_to_one_size_or_are_refused(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(ground.folder / "boxes.parquet")
    pictures = [{"bytes": images.encode(corpus.picture(i, 48, 64), images.Encoding()), "path": None} for i in range(2)]
    table = pyarrow.table({"image": pictures, "boxes": [[[8.0, 8.0, 16.0, 24.0]]] * 2})
    pyarrow.parquet.write_table(table, source)
    options = ["--size", "training", "--geometry", "boxes", "xyxy"]
    assert ground.run("boxes", "--bundle", ground.pix2pix, ground.cyclegan, *options, source=source) == 2
    assert "by --size training the models have several (32, 40)" in last_line(capsys)
    both = ["--bundle", ground.cyclegan, "--direction", "both"]
    assert ground.run("boxes", *both, *options, source=source) == 0
    assert ground.run("boxes-alone", "--bundle", ground.cyclegan, *options, source=source) == 0
    assert {str(row["boxes"]) for row in ground.rows("boxes")} == {str(ground.rows("boxes-alone")[0]["boxes"])}
