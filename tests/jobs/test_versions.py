"""New versions: of slots (jobs.augment --redo) and of whole outputs (jobs.translate --new_version)."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import augment, translate, verify
from pipeline import failpoints, images, storage
from pipeline.augment import slots
from pipeline.engine.records.card import publish_card
from pipeline.engine.records.layout import Output
from pipeline.stores import open_store, read_rows, versions
from tests import corpus
from tests.chaos import child
from tests.chaos.ground import assert_same, crash_at
from tests.conftest import new_prefix
from tests.jobs.test_parquet_as_people_have_it import differing

DAYS = ("2026-10-01", "2026-10-02", "2026-10-03")


class Ground:
    """Three slots of one source, made by one bundle, and another bundle to make them anew."""

    def __init__(self, inputs: Path, scratch: Path) -> None:
        """Take inputs from one folder, and write into another."""
        self.scratch, self.source, self.output = scratch, str(inputs / "in"), str(scratch / "out")
        self.old, self.new = str(inputs / "old"), str(inputs / "new")
        self.bundle = self.old

    def prepare(self) -> None:
        """Write the inputs, and run the slots."""
        corpus.write_bundle(self.old)
        corpus.write_bundle(self.new, width=6)
        for number, day in enumerate(DAYS):
            for i in range(3):
                picture = images.encode(corpus.picture(10 * number + i), images.Encoding(codec="png"))
                storage.replace(f"{self.source}/{day}/{i}.png", picture)
            assert self.run("--slot", day) == 0

    def arguments(self, *options: str, output: str = "") -> list[str]:
        file = self.scratch / "augment.yaml"
        wishes = {
            "sources": {"cameras": self.source},
            "translators": {"night": {"bundle": self.bundle}},
            "limits": {"rows": 2},
            "resources": {"threads": 1},
        }
        file.write_text(yaml.safe_dump(wishes))
        return ["--config", str(file), "--output", output or self.output, "--local", *options]

    def run(self, *options: str, output: str = "") -> int:
        return augment.main(self.arguments(*options, output=output))

    def redo(self, *days: str, bundle: str = "") -> int:
        self.bundle = bundle or self.new
        return self.run("--redo", *days)

    def read(self, *, by_datasets: bool = True) -> list[dict[str, Any]]:
        """Return what every reader that follows the mark sees, after a check that they agree, each input once."""
        store = open_store(self.output)
        rows = read_rows(list(store.ranges), ["model", "image"]).to_pylist()
        if by_datasets:
            loaded = datasets.load_dataset(self.output, split="train", cache_dir=str(self.scratch / "cache"))
            assert Counter(row["key"] for row in rows) == Counter(loaded["key"])
            assert Counter(row["model"] for row in rows) == Counter(loaded["model"])
        expected = [f"{kind}/cameras/{day}/{i}.png" for kind in ("night", "original") for day in DAYS for i in range(3)]
        assert sorted(row["key"] for row in rows) == expected
        return rows

    def inputs(self) -> set[str]:
        rows = read_rows(list(open_store(self.output).ranges), []).to_pylist()
        assert len({row["key"] for row in rows}) == len(rows)
        return {row["key"].split("/", 2)[2] for row in rows}

    def models(self) -> dict[str, set[str]]:
        """Return, by day, the models that made its translations."""
        found: dict[str, set[str]] = {day: set() for day in DAYS}
        for row in self.read():
            if row["model"]:
                found[row["key"].split("/")[2]].add(row["model"])
        return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    Ground(folder, folder).prepare()
    return folder


@pytest.fixture
def ground(prepared: Path, tmp_path: Path) -> Ground:
    """Return a copy of the finished slots, whose inputs stay as they are."""
    shutil.copytree(prepared / "out", tmp_path / "out")
    return Ground(prepared, tmp_path)


def test_a_redone_slot_is_read_once_it_is_whole_and_the_old_one_until_then(
    ground: Ground, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ground.models()
    assert len(set.union(*before.values())) == 1
    old = corpus.contents(ground.output)
    seen = list[dict[str, set[str]]]()
    monkeypatch.setattr(
        failpoints,
        "point",
        lambda name: seen.append(ground.models()) if name in ("after data", "before mark") else None,
    )
    assert ground.redo(DAYS[1]) == 0
    assert len(seen) > 2
    assert all(each == before for each in seen)
    after = ground.models()
    assert (after[DAYS[0]], after[DAYS[2]]) == (before[DAYS[0]], before[DAYS[2]])
    assert after[DAYS[1]].isdisjoint(before[DAYS[1]])
    assert_same(corpus.contents(ground.output), old)
    assert f"{ground.output}: version 2 of slot {DAYS[1]} is read" in capsys.readouterr().out
    # Whoever reads data/ by a pattern still sees the old version of each input, once.
    plain = pq.read_table(f"{ground.output}/data", columns=["key", "model"])
    assert sorted(plain["key"].to_pylist()) == sorted(row["key"] for row in ground.read())
    assert {*plain["model"].to_pylist(), None} == {None, *before[DAYS[0]]}
    monkeypatch.undo()
    assert ground.redo(DAYS[1]) == 0
    assert "was complete already, nothing to do" in capsys.readouterr().out
    assert versions.marks(ground.output) == [2]
    assert verify.main(["--input", ground.output]) == 0
    said = capsys.readouterr().out
    assert said.count(": whole") == 2


def test_patterns_and_folders_below_data_follow_the_mark(ground: Ground) -> None:
    assert ground.redo(DAYS[0], DAYS[1]) == 0
    new = {next(iter(models)) for day, models in ground.models().items() if day in DAYS[:2]}
    store = open_store(f"{ground.output}/data/slot=*/translator=night")
    rows = read_rows(list(store.ranges), ["model"]).to_pylist()
    assert Counter(row["model"] in new for row in rows) == {True: 6, False: 3}
    one = open_store(f"{ground.output}/data/slot={DAYS[0]}/translator=night")
    assert {row["model"] for row in read_rows(list(one.ranges), ["model"]).to_pylist()} == new


def test_a_slot_that_is_redone_twice_has_a_version_3_and_old_data_goes_only_when_asked(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ground.models()
    assert ground.redo(DAYS[1], DAYS[2]) == 0
    second = ground.models()
    third = corpus.write_bundle(str(ground.scratch / "third"), width=8)
    assert ground.redo(DAYS[1], bundle=third) == 0
    models = ground.models()
    assert models[DAYS[1]].isdisjoint(first[DAYS[1]] | second[DAYS[1]])
    assert models[DAYS[2]] == second[DAYS[2]]
    assert versions.current(versions.marked(ground.output)) == {DAYS[1]: 3, DAYS[2]: 2}
    before = {entry.name for entry in storage.list_files(ground.output)}
    capsys.readouterr()
    assert verify.main(["--input", ground.output, "--keep_versions", "1"]) == 0
    said = capsys.readouterr().out
    assert f"would delete: version 1 of slot {DAYS[1]}: " in said
    assert f"would delete: version 2 of slot {DAYS[1]}: " in said
    assert {entry.name for entry in storage.list_files(ground.output)} == before
    assert verify.main(["--input", ground.output, "--keep_versions", "1", "--clean"]) == 0
    assert "deleted the data of old versions: 3 of them" in capsys.readouterr().out
    gone = before - {entry.name for entry in storage.list_files(ground.output)}
    assert gone
    assert all(f"data/slot={DAYS[1]}/" in name or f"data/slot={DAYS[2]}/" in name for name in gone)
    assert ground.models() == models
    assert verify.main(["--input", ground.output, "--keep_versions", "1"]) == 0
    assert "no data of versions that are not kept" in capsys.readouterr().out
    card = storage.read(f"{ground.output}/README.md").decode()
    assert "- data/**\n" in card
    assert f"version 3 of slot {DAYS[1]} in place of version 2" in card
    # A given-up slot takes its versions along.
    assert slots.retire(Output(ground.output), 1) == list(DAYS[:2])
    rows = read_rows(list(open_store(ground.output).ranges), ["model"])
    assert {key.split("/")[2] for key in rows["key"].to_pylist()} == {DAYS[2]}
    assert len(datasets.load_dataset(ground.output, split="train", cache_dir=str(ground.scratch / "last"))) == 6
    assert verify.main(["--input", ground.output]) == 0


def test_what_cannot_be_redone_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ground = Ground(tmp_path, tmp_path)
    ground.prepare()
    before = corpus.contents(ground.output)

    def refused(expected: str, *days: str) -> None:
        assert ground.redo(*days) == 2
        assert expected in capsys.readouterr().err

    refused(f"has no slot 2026-09-01; there are {', '.join(DAYS)}", "2026-09-01")
    storage.delete(f"{ground.output}/_transdomain/commits/000001-000000.json")
    refused(
        f"slot {DAYS[1]}: not finished, and a new version replaces a whole one; run it with --slot {DAYS[1]}", *DAYS
    )
    ground.bundle = ground.old
    storage.delete(f"{ground.output}/_SUCCESS")
    assert ground.run("--slot", DAYS[1]) == 0
    storage.replace(f"{ground.source}/{DAYS[1]}/0.png", b"another picture")
    refused("1 of its inputs are gone, or have changed", DAYS[1])
    assert ground.run("--redo", DAYS[1], "--slot", DAYS[1]) == 2
    assert_same(corpus.contents(ground.output), before)
    assert versions.begun(ground.output) == []
    assert ground.run("--redo", DAYS[1], "--on_changed", "set_aside", "--budget.share", "0.9") == 0
    assert ground.inputs() == {f"{day}/{i}.png" for day in DAYS for i in range(3)} - {f"{DAYS[1]}/0.png"}
    # Nights go on beside it.
    ground.bundle = ground.old
    storage.replace(f"{ground.source}/new.png", images.encode(corpus.picture(99), images.Encoding(codec="png")))
    assert ground.run("--slot", "2026-10-04") == 0
    assert "new.png" in ground.inputs()
    loaded = datasets.load_dataset(ground.output, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 2 * 9
    assert verify.main(["--input", ground.output, "--no_source"]) == 0
    capsys.readouterr()
    assert ground.run("--status") == 0
    assert "complete, version 2" in capsys.readouterr().out


def test_a_dry_run_of_a_redo_writes_nothing(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    before = {entry.name for entry in storage.list_files(ground.output)}
    ground.bundle = ground.new
    assert ground.run("--redo", DAYS[0], "--dry_run") == 0
    assert "would write" in capsys.readouterr().out
    assert {entry.name for entry in storage.list_files(ground.output)} == before


def killed_and_gone_on(ground: Ground, points: tuple[str, ...]) -> None:
    """Kill a redo at each of these points, on the way to one version, and compare it with one that was not killed."""
    ground.bundle = ground.new
    calm = ground.scratch / "calm"
    shutil.copytree(ground.output, calm)
    assert ground.run("--redo", DAYS[1], output=str(calm)) == 0
    for i, point in enumerate(points):
        code = child.run("augment", ground.arguments("--redo", DAYS[1]), crash_at(point, ground.scratch / f"token-{i}"))
        assert code == -9, point
        ground.read(by_datasets=point != "after mark")  # the card follows the mark
    assert ground.run("--redo", DAYS[1]) == 0
    for root in ("", "/_versions/000002"):
        assert_same(corpus.contents(f"{ground.output}{root}"), corpus.contents(f"{calm}{root}"))
    assert storage.read(f"{ground.output}/README.md") == storage.read(str(calm / "README.md"))
    assert verify.main(["--input", ground.output]) == 0


def test_a_redo_that_is_killed_goes_on_to_the_same_bytes(ground: Ground) -> None:
    killed_and_gone_on(ground, ("after data", "after mark"))


@pytest.mark.long
def test_a_redo_may_be_killed_at_every_point(ground: Ground) -> None:
    reached = [point for point in failpoints.POINTS if point != "after image"]
    killed_and_gone_on(ground, (*failpoints.POINTS_OF_VERSIONS[:2], *reached, *failpoints.POINTS_OF_VERSIONS[2:]))


def test_a_translation_has_a_new_version_that_grows_by_its_own_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    corpus.write_folder(source, 4)
    bundles = [corpus.write_bundle(str(tmp_path / f"bundle-{width}"), width=width) for width in (4, 6)]
    options = ["--input", source, "--output", output, "--local", "--budget.share", "0.9", "--bundle"]
    assert translate.main([*options, bundles[0], "--new_version"]) == 2
    assert "nothing is made there yet" in capsys.readouterr().err
    assert not storage.exists(output)
    assert translate.main([*options, bundles[0]]) == 0

    def read() -> dict[str, str]:
        rows = read_rows(list(open_store(output).ranges), ["model"]).to_pylist()
        return {row["key"]: row["model"] for row in rows}

    first = read()
    assert translate.main([*options, bundles[1]]) == 2  # never by surprise
    assert translate.main([*options, bundles[1], "--new_version"]) == 0
    second = read()
    assert second.keys() == first.keys()
    assert set(second.values()).isdisjoint(first.values())
    assert "path:\n    - _versions/000002/data/**" in storage.read(f"{output}/README.md").decode()
    assert {*datasets.load_dataset(output, split="train", cache_dir=str(tmp_path / "c"))["model"]} == {*second.values()}
    assert translate.main([*options, bundles[1], "--new_version"]) == 0
    assert "was complete already" in capsys.readouterr().out
    storage.replace(f"{source}/more.png", images.encode(corpus.picture(50), images.Encoding(codec="png")))
    assert translate.main([*options, bundles[1]]) == 0
    assert read().keys() == {*second, "more.png"}
    assert verify.main(["--input", output, "--keep_versions", "1", "--clean"]) == 0
    assert not len(storage.list_files(f"{output}/data"))
    assert read().keys() == {*second, "more.png"}
    assert verify.main(["--input", output]) == 0


def test_versions_of_shards_that_differ_hold_every_value_in_one_schema(tmp_path: Path) -> None:
    """A new version of a slot and of a translation reads the same rows as the first, in the same columns."""
    source, output, slots_of = differing(tmp_path / "in"), str(tmp_path / "out"), str(tmp_path / "slots")
    old, new = (corpus.write_bundle(str(tmp_path / f"bundle-{width}"), width=width) for width in (4, 6))
    labels = [("1", 1, []), ("2", 2, []), ("c", 3, [1.5]), ("d", 2**40, None), ("e", None, [2.5])]

    def check(url: str, shards: str, copies: int) -> set[str]:
        """Return the models that made the current rows, after a check of their labels and of their schemas."""
        store = open_store(url)
        rows = read_rows(list(store.ranges), ["source_key", "label", "boxes", "model"]).to_pylist()
        found = [(row["source_key"], row["label"], row["boxes"]) for row in rows]
        assert sorted(found, key=lambda row: row[0]) == sorted(labels * copies, key=lambda row: row[0])
        schemas = {pq.read_schema(path).remove_metadata() for path in Path(shards).rglob("*.parquet")}
        assert len(schemas) == 1
        return {row["model"] for row in rows if row["model"]}

    options = ["--input", source, "--output", output, "--local", "--limits.rows", "2", "--bundle"]
    assert translate.main([*options, old]) == 0
    before = check(output, f"{output}/data", 1)
    assert translate.main([*options, new, "--new_version"]) == 0
    assert check(output, f"{output}/_versions/000002/data", 1).isdisjoint(before)
    assert verify.main(["--input", output]) == 0

    wishes = {"sources": {"shards": source}, "limits": {"rows": 2}, "resources": {"threads": 1}}
    options = ["--config", str(tmp_path / "augment.yaml"), "--output", slots_of, "--local"]
    made = list[set[str]]()
    for bundle, what in ((old, "--slot"), (new, "--redo")):
        (tmp_path / "augment.yaml").write_text(yaml.safe_dump(wishes | {"translators": {"night": {"bundle": bundle}}}))
        assert augment.main([*options, what, DAYS[0]]) == 0
        newest = "/_versions/000002" if what == "--redo" else ""
        made.append(check(slots_of, f"{slots_of}{newest}/data/slot={DAYS[0]}", 2))
    assert [len(models) for models in made] == [1, 1]
    assert made[0].isdisjoint(made[1])
    assert verify.main(["--input", slots_of]) == 0


@pytest.mark.parametrize("how", ["--bundle", "--chain"])
def test_several_models_or_a_chain_have_a_new_version_together(how: str, tmp_path: Path) -> None:
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    corpus.write_folder(source, 4)
    bundles = [corpus.write_bundle(str(tmp_path / f"model-{width}"), width=width) for width in (2, 4, 6)]
    options = ["--input", source, "--output", output, "--local", "--budget.share", "0.9", how]
    assert translate.main([*options, *bundles[:2]]) == 0

    def read() -> dict[str, bytes]:
        rows = read_rows(list(open_store(output).ranges), ["image"]).to_pylist()
        return {row["key"]: row["image"]["bytes"] for row in rows}

    first = read()
    anew = [bundles[2], bundles[1], "--new_version"]
    assert translate.main([*options, *anew]) == 0
    second = read()
    kept = {key for key, data in second.items() if first.get(key) == data}
    if how == "--chain":
        assert (second.keys(), kept) == (first.keys(), set())
    else:
        assert kept == {key for key in first if key.startswith("model-4/")} == second.keys() & first.keys()
        assert len(second) == len(first)
    (version,) = versions.marked(output)
    assert version.models.keys() == ({"1", "2"} if how == "--chain" else {"model-4", "model-6"})
    assert translate.main([*options, *anew]) == 0  # nothing is made twice
    assert versions.marks(output) == [2]
    assert verify.main(["--input", output]) == 0


@pytest.mark.long
def test_redos_at_once_of_one_setting_make_one_version_and_of_two_the_newest_wins(ground: Ground) -> None:
    ground.bundle = ground.new
    with ThreadPoolExecutor(2) as threads:
        same = ground.arguments("--redo", DAYS[0])
        assert list(threads.map(lambda _: child.run("augment", same, {}), range(2))) == [0, 0]
    assert versions.marks(ground.output) == [2]
    ground.read()
    third = corpus.write_bundle(str(ground.scratch / "third"), width=8)
    fourth = corpus.write_bundle(str(ground.scratch / "fourth"), width=10)

    def redo(bundle: str) -> int:
        option = ["--translators.night.bundle", bundle]
        return child.run("augment", [*ground.arguments("--redo", DAYS[0]), *option], {})

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(redo, (third, fourth))) == [0, 0]
    assert versions.marks(ground.output) == [2, 3, 4]
    newest = versions.marked(ground.output)[-1].models["night"]
    assert ground.models()[DAYS[0]] == {newest}
    assert verify.main(["--input", ground.output]) == 0


@pytest.mark.parametrize("store", ["local", pytest.param("s3", marks=pytest.mark.long)])
def test_a_folder_of_translations_has_a_new_version(store: str, request: pytest.FixtureRequest) -> None:
    shared_prefix = new_prefix(store, request)
    source, output = storage.join(shared_prefix, "in"), storage.join(shared_prefix, "out")
    corpus.write_folder(source, 3)
    bundles = [corpus.write_bundle(storage.join(shared_prefix, f"bundle-{width}"), width=width) for width in (4, 6)]
    options = ["--input", source, "--output", output, "--form", "folder", "--local", "--budget.share", "0.9"]
    assert translate.main([*options, "--bundle", bundles[0]]) == 0

    def read() -> dict[str, bytes]:
        rows = read_rows(list(open_store(output).ranges), ["image"]).to_pylist()
        return {row["key"]: row["image"]["bytes"] for row in rows}

    first = read()
    assert translate.main([*options, "--bundle", bundles[1], "--new_version"]) == 0
    second = read()
    assert second.keys() == first.keys()
    assert all(second[key] != first[key] for key in first)
    assert verify.main(["--input", output, "--keep_versions", "1"]) == 0
    assert len(storage.list_files(f"{output}/data")) == len(first) + 1  # and their metadata
    assert verify.main(["--input", output, "--keep_versions", "1", "--clean"]) == 0
    assert not len(storage.list_files(f"{output}/data"))
    assert read() == second
    assert verify.main(["--input", output]) == 0


def test_a_version_of_an_output_that_grew_meanwhile_is_not_read_before_it_has_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    picture = images.encode(corpus.picture(1), images.Encoding(codec="png"))
    storage.replace(f"{source}/a.png", picture)
    bundles = [corpus.write_bundle(str(tmp_path / f"bundle-{width}"), width=width) for width in (4, 6)]
    options = ["--input", source, "--output", output, "--local", "--bundle"]
    assert translate.main([*options, bundles[0]]) == 0

    def grow(name: str) -> None:
        if name == "after version":
            storage.replace(f"{source}/b.png", picture)
            assert translate.main([*options, bundles[0]]) == 0

    monkeypatch.setattr(failpoints, "point", grow)
    assert translate.main([*options, bundles[1], "--new_version"]) == 1
    assert "new inputs were translated there while its version 2 was made" in capsys.readouterr().err
    assert versions.marks(output) == []
    monkeypatch.undo()
    assert translate.main([*options, bundles[1], "--new_version"]) == 0
    rows = read_rows(list(open_store(output).ranges), ["model"]).to_pylist()
    assert len({row["model"] for row in rows}) == 1
    assert [row["key"] for row in rows] == ["a.png", "b.png"]
    assert versions.marks(output) == [2]


def test_a_card_or_a_deletion_that_a_kill_left_behind_is_mended(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    card = storage.read(f"{ground.output}/README.md")
    assert ground.redo(DAYS[1]) == 0
    storage.replace(f"{ground.output}/README.md", card)  # killed right after the mark
    assert verify.main(["--input", ground.output]) == 1
    assert "README.md does not name the versions that are marked" in capsys.readouterr().out
    assert verify.main(["--input", ground.output, "--repair"]) == 1
    assert "written anew: README.md" in capsys.readouterr().out
    assert verify.main(["--input", ground.output]) == 0
    storage.create(Output(ground.output).retired(1), b'{"segment": 1}')  # killed before the first shard was deleted
    publish_card(Output(ground.output))
    assert len(ground.read()) == 18
    assert verify.main(["--input", ground.output]) == 1
    assert verify.main(["--input", ground.output, "--keep_versions", "1", "--clean"]) == 0
    assert not len(storage.list_files(f"{ground.output}/data/slot={DAYS[1]}"))
    assert len(ground.read()) == 18
    mark = versions.mark_url(ground.output, 2)
    storage.replace(mark, b"{}")
    capsys.readouterr()
    assert verify.main(["--input", ground.output]) == 1
    assert "fault: _transdomain/current/000002.json is not what" in capsys.readouterr().out
