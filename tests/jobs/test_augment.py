"""Tests of jobs.augment through its command line, in the plain loop: slots, draws, kept data and messages."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import augment, pack, verify
from pipeline import failpoints, images, storage
from pipeline.augment import slots
from pipeline.augment.job import draw
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, load_segments, load_units
from pipeline.models import measuring, native
from pipeline.models.arithmetic import Form
from pipeline.stores import open_store
from pipeline.stores.tables.schema import IMAGE_TYPE
from pipeline.translation import arithmetic
from tests import corpus
from tests.pipeline.training import small

DAYS = ["2026-10-01", "2026-10-02", "2026-10-03"]


class Ground:
    """Source that grows by a folder of images a day, and a configuration with two translators."""

    def __init__(self, prefix: str, scratch: Path) -> None:
        self.source, self.output = storage.join(prefix, "in"), storage.join(prefix, "out")
        self.file = scratch / "augment.yaml"
        self.wishes: dict[str, Any] = {
            "sources": {"cameras": self.source},
            "output": self.output,
            "translators": {
                "night": {"bundle": corpus.write_bundle(storage.join(prefix, "night")), "probability": 0.5},
                "rain": {"bundle": corpus.write_bundle(storage.join(prefix, "rain"), width=6)},
            },
            "limits": {"rows": 4},
            "budget": {"share": 0.5},
            "seed": 7,
        }

    def grow(self, day: str, count: int) -> list[str]:
        names = [f"{day}/{i:02d}.png" for i in range(count)]
        for i, name in enumerate(names):
            data = images.encode(corpus.picture(hash_of(name) + i), images.Encoding(codec="png"))
            storage.replace(storage.join(self.source, name), data)
        return names

    def run(self, slot: str, *options: str) -> int:
        self.file.write_text(yaml.safe_dump(self.wishes))
        return augment.main(["--config", str(self.file), "--slot", slot, "--local", *options])

    def plan(self, slot: str, *options: str) -> None:
        """Run a slot, but end as soon as its plan is there."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(failpoints, "point", lambda name: self._end() if name == "after plan" else None)
            assert self.run(slot, *options) == 1

    def _end(self) -> None:
        raise RuntimeError("ended")

    def slots(self) -> dict[str, set[str]]:
        """Return the sources of every slot, from its plan."""
        output = Output(self.output)
        found: dict[str, set[str]] = {}
        for segment in load_segments(output):
            units = load_units(output, segment.number)
            found[segment.label] = {piece.shard for unit in units for piece in unit.ranges}
        return found


def hash_of(name: str) -> int:
    return sum(name.encode())


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(str(tmp_path), tmp_path)


def test_each_image_is_translated_by_those_it_is_drawn_for_and_kept(any_prefix: str, tmp_path: Path) -> None:
    ground = Ground(any_prefix, tmp_path)
    corpus.write_folder(ground.source, 20)
    assert ground.run(DAYS[0]) == 0
    good = [e.name for e in storage.list_files(ground.source) if e.name not in corpus.BROKEN]
    drawn = draw(7, "night", 0.5)
    assert drawn
    night = [key for key in good if drawn.wants(key)]
    assert 0 < len(night) < len(good)
    rows = corpus.rows(ground.output)
    assert Counter((row["translator"], row["source_key"]) for row in rows) == Counter(
        [("original", key) for key in good] + [("rain", key) for key in good] + [("night", key) for key in night]
    )
    assert {row["key"] for row in rows} == {f"{row['translator']}/cameras/{row['source_key']}" for row in rows}
    assert {row["source"] for row in rows} == {"cameras"}
    for row in rows:
        if row["translator"] == "original":
            assert row["image"]["bytes"] == storage.read(storage.join(ground.source, row["source_key"]))
            assert row["model"] is None
        assert (row["width"], row["height"], row["source_width"], row["source_height"]) == (24, 24, 24, 24)
    pixels = {
        row["translator"]: images.decode(row["image"]["bytes"]).pixels for row in rows if row["source_key"] == night[0]
    }
    assert not np.array_equal(pixels["night"], pixels["original"])
    assert not np.array_equal(pixels["night"], pixels["rain"])
    aside = [
        row["key"]
        for entry in storage.list_files(storage.join(ground.output, "_quarantine"))
        for row in pq.read_table(io.BytesIO(storage.read(entry.url))).to_pylist()
    ]
    expected = [*corpus.BROKEN] * 2 + [key for key in corpus.BROKEN if drawn.wants(key)]
    assert Counter(aside) == Counter(expected)
    assert verify.main(["--input", ground.output]) == 0


def test_a_translation_is_that_of_jobs_translate(ground: Ground) -> None:
    from jobs import translate

    ground.grow(DAYS[0], 3)
    plain = ground.output + "-plain"
    bundle = ground.wishes["translators"]["rain"]["bundle"]
    assert translate.main(["--input", ground.source, "--output", plain, "--bundle", bundle, "--local"]) == 0
    assert ground.run(DAYS[0]) == 0
    found = {
        row["source_key"]: row["image"]["bytes"] for row in corpus.rows(ground.output) if row["translator"] == "rain"
    }
    assert found == {row["source_key"]: row["image"]["bytes"] for row in corpus.rows(plain)}


def test_a_slot_takes_what_is_in_no_slot_yet(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    first = ground.grow(DAYS[0], 5)
    assert ground.run(DAYS[0]) == 0
    before = corpus.contents(ground.output)
    second = ground.grow(DAYS[2], 3)
    assert ground.run(DAYS[0]) == 0  # run again: it has its inputs
    assert "was complete already, nothing to do" in capsys.readouterr().out
    assert corpus.contents(ground.output) == before
    assert ground.run(DAYS[2]) == 0
    assert ground.run(DAYS[1]) == 0  # missed and run later: it gets what is left, which is nothing
    assert ground.slots() == {DAYS[0]: set(first), DAYS[2]: set(second), DAYS[1]: set()}
    third = ground.grow("late", 1)
    assert ground.run(DAYS[1]) == 0
    assert ground.slots()[DAYS[1]] == set()
    assert ground.run("2026-10-04") == 0
    assert ground.slots()["2026-10-04"] == set(third)
    assert verify.main(["--input", ground.output]) == 0
    capsys.readouterr()
    assert ground.run("", "--status") == 0
    said = capsys.readouterr().out
    assert f"{ground.output}: complete" in said
    assert [line.split()[:4] for line in said.splitlines() if line.startswith("  2026")] == [
        [DAYS[0], "5", str(5 + 5 + nights(first)), "0"], [DAYS[1], "0", "0", "0"],
        [DAYS[2], "3", str(3 + 3 + nights(second)), "0"], ["2026-10-04", "1", str(1 + 1 + nights(third)), "0"],
    ]  # fmt: skip


def nights(names: list[str]) -> int:
    drawn = draw(7, "night", 0.5)
    assert drawn
    return sum(map(drawn.wants, names))


def test_everything_may_change_between_slots_and_nothing_within(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    ground.grow(DAYS[0], 4)
    assert ground.run(DAYS[0]) == 0
    ground.wishes["seed"] = 8
    del ground.wishes["translators"]["night"]
    assert ground.run(DAYS[0]) == 2
    said = capsys.readouterr().err
    assert f"slot {DAYS[0]} was begun with other settings" in said
    assert "seed: 7 there, 8 now" in said
    assert "a slot keeps its own, so run it with those" in said
    ground.grow(DAYS[1], 4)
    assert ground.run(DAYS[1]) == 0
    assert {row["translator"] for row in corpus.rows(ground.output) if row["source_key"].startswith(DAYS[1])} == {
        "original", "rain"
    }  # fmt: skip
    assert verify.main(["--input", ground.output]) == 0


def test_an_unfinished_slot_is_finished_by_the_next_of_the_same_settings(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ground.grow(DAYS[0], 6)
    storage.replace(storage.join(ground.source, "x.png"), b"no picture")
    assert ground.run(DAYS[0], "--budget.count", "0") == 3  # its budget stopped it
    assert not storage.exists(storage.join(ground.output, "_SUCCESS"))
    capsys.readouterr()
    assert ground.run("", "--status") == 0
    assert f"{ground.output}: {DAYS[0]} to be run again" in capsys.readouterr().out
    second = ground.grow(DAYS[1], 4)
    assert ground.run(DAYS[1]) == 0
    assert ground.slots() == {DAYS[0]: {*first, "x.png"}, DAYS[1]: set(second)}
    assert {row["source_key"] for row in corpus.rows(ground.output)} == {*first, *second}
    assert verify.main(["--input", ground.output]) == 0


def test_a_slot_of_other_settings_is_left_to_its_own_run(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    ground.grow(DAYS[0], 4)
    storage.replace(storage.join(ground.source, "x.png"), b"no picture")
    assert ground.run(DAYS[0], "--budget.count", "0") == 3
    ground.grow(DAYS[1], 4)
    ground.wishes["seed"] = 8
    assert ground.run(DAYS[1]) == 0
    assert f"not finished yet, to be run again with the settings that they have: {DAYS[0]}" in caplog.text
    assert not storage.exists(storage.join(ground.output, "_SUCCESS"))
    ground.wishes["seed"] = 7
    assert ground.run(DAYS[0]) == 0
    assert verify.main(["--input", ground.output]) == 0


def test_old_slots_give_up_their_data_and_nothing_else(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    for day in DAYS:
        ground.grow(day, 4)
        assert ground.run(day, "--keep_slots", "2") == 0
    assert f"{ground.output}, slot {DAYS[0]}: data deleted" in capsys.readouterr().out
    kept = {row["source_key"][:10] for row in corpus.rows(ground.output)}
    assert kept == set(DAYS[1:])
    assert ground.run(DAYS[0], "--keep_slots", "2") == 0  # nothing is augmented again
    assert "was complete already" in capsys.readouterr().out
    assert {row["source_key"][:10] for row in corpus.rows(ground.output)} == kept
    assert verify.main(["--input", ground.output]) == 0
    mark = json.loads(storage.read(storage.join(ground.output, "_SUCCESS")))
    assert mark["inputs"] == 3 * 3 * 4
    assert ground.run("", "--status") == 0
    assert "data deleted" in capsys.readouterr().out


def test_what_was_set_aside_stays_when_the_data_goes(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    ground.grow(DAYS[0], 4)
    storage.replace(storage.join(ground.source, "x.png"), b"no picture")
    assert ground.run(DAYS[0]) == 0
    ground.grow(DAYS[1], 2)
    assert ground.run(DAYS[1], "--keep_slots", "1") == 0
    assert verify.main(["--input", ground.output]) == 0
    first = storage.list_files(storage.join(ground.output, "_quarantine"))[0]
    assert first.name.startswith("000000-")
    storage.delete(first.url)
    capsys.readouterr()
    assert verify.main(["--input", ground.output]) == 1
    assert f"fault: _quarantine/{first.name} is missing" in capsys.readouterr().out


@pytest.mark.parametrize("point", ["before keys", "before report"])
def test_data_may_be_given_up_while_a_slot_ends(ground: Ground, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in DAYS[:2]:
        ground.grow(day, 2)
        assert ground.run(day) == 0
    ground.grow(DAYS[2], 2)
    named = {"before keys": "keys_of", "before report": "totals"}[point]
    whole, given_up = getattr(finish, named), list[str]()

    def give_up_first(*arguments: Any) -> Any:
        if not given_up and len(load_segments(Output(ground.output))) == 3:
            given_up.extend(slots.retire(Output(ground.output), 1, DAYS[2]))
        return whole(*arguments)

    monkeypatch.setattr(finish, named, give_up_first)
    assert ground.run(DAYS[2]) == 0
    assert given_up
    assert verify.main(["--input", ground.output]) == 0


def test_the_status_names_every_slot_that_is_not_finished(
    ground: Ground, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.grow(DAYS[0], 3)
    storage.replace(storage.join(ground.source, "x.png"), b"no picture")
    assert ground.run(DAYS[0], "--budget.count", "0") == 3
    ground.wishes["seed"] = 8
    for day in DAYS[1:]:
        assert ground.run(day) == 0
    monkeypatch.setattr(augment, "STATUS_SLOTS", 1)
    capsys.readouterr()
    assert ground.run("", "--status") == 0
    said = capsys.readouterr().out
    assert f"{ground.output}: {DAYS[0]} to be run again" in said
    assert [line.split()[0] for line in said.splitlines() if line.startswith("  2026")] == [DAYS[0], DAYS[2]]


def test_an_empty_source_beside_another_is_nothing_to_stop_for(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    names = ground.grow(DAYS[0], 2)
    later = ground.file.parent / "later.parquet"
    pq.write_table(pa.table({"image": pa.array([], IMAGE_TYPE)}), later)
    ground.wishes["sources"]["later"] = str(later)
    assert ground.run(DAYS[0]) == 0
    assert f"{later}: holds no rows" in caplog.text
    assert ground.slots() == {DAYS[0]: set(names)}


def test_a_source_may_gain_a_column_where_the_labels_are_named(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(ground.source)
    source.mkdir()
    rows = {"image": [{"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}], "city": ["Ulm"]}
    pq.write_table(pa.table(rows), source / "1.parquet")
    assert ground.run(DAYS[0]) == 0
    pq.write_table(pa.table(rows | {"weather": ["fog"]}), source / "2.parquet")
    assert ground.run(DAYS[1]) == 2
    assert "weather: string unexpected; --missing_columns null takes them" in (said := capsys.readouterr().err)
    assert "lacks it; name those to keep with --labels" in said
    assert ground.run(DAYS[1], "--labels", "city", "weather") == 2
    assert "no column weather, or not in all its shards; leave it out of --labels" in capsys.readouterr().err
    assert ground.run(DAYS[1], "--labels", "city") == 0
    assert {row["city"] for row in corpus.rows(ground.output)} == {"Ulm"}


def test_a_folder_beside_labelled_shards_goes_without_labels(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    ground.grow(DAYS[0], 1)
    labelled = ground.file.parent / "labelled.parquet"
    picture = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
    pq.write_table(pa.table({"image": [picture], "city": ["Ulm"]}), labelled)
    ground.wishes["sources"]["labelled"] = str(labelled)
    assert ground.run(DAYS[0]) == 2
    assert "cameras has no column city" in capsys.readouterr().err
    assert ground.run(DAYS[0], "--labels") == 0
    assert {row["source"] for row in corpus.rows(ground.output)} == {"cameras", "labelled"}
    ground.wishes["labels"] = []
    assert ground.run(DAYS[0]) == 0


def test_a_deletion_that_was_killed_is_finished_by_the_next_run(ground: Ground) -> None:
    for day in DAYS[:2]:
        ground.grow(day, 4)
        assert ground.run(day) == 0
    output = Output(ground.output)
    storage.create(output.retired(0), b"{}")  # killed before the first shard was deleted
    assert slots.retire(output, 1) == [DAYS[0]]
    assert slots.retire(output, 1) == []
    assert {row["source_key"][:10] for row in corpus.rows(ground.output)} == {DAYS[1]}


def test_an_input_that_is_gone_once_it_was_augmented_is_nobodys_business(ground: Ground) -> None:
    names = ground.grow(DAYS[0], 4)
    assert ground.run(DAYS[0]) == 0
    storage.delete(storage.join(ground.source, names[0]))
    assert ground.run(DAYS[1]) == 0
    ground.grow(DAYS[2], 2)
    assert ground.run(DAYS[2]) == 0


def test_a_slot_computes_as_the_last_one_did(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could not finish what that one has left. Another model is measured anew."""
    measured = list[int]()

    def measure(forms: list[Form], *_: Any, **__: Any) -> dict[Form, float]:
        measured.append(len(forms))
        return {form: float(form.trunk != ("winograd" if len(measured) < 3 else "direct")) + 1 for form in forms}

    monkeypatch.setattr(measuring, "measure", measure)
    monkeypatch.setattr(arithmetic, "_SMALL_FLOP", 0)  # else a few small images wait for no measurement
    monkeypatch.setattr(native, "is_available", lambda: False)
    for day in DAYS[:2]:
        ground.grow(day, 2)
        assert ground.run(day) == 0
    assert len(measured) == 2
    ground.wishes["translators"]["rain"]["bundle"] = corpus.write_bundle(f"{ground.output}-rain", width=8)
    ground.grow(DAYS[2], 2)
    assert ground.run(DAYS[2]) == 0
    assert len(measured) == 3
    segments = load_segments(Output(ground.output))
    trunks = [{n: m["arithmetic"]["trunk"] for n, m in each.recipe["translators"].items()} for each in segments]
    assert trunks == [{"night": "winograd", "rain": "winograd"}] * 2 + [{"night": "winograd", "rain": "direct"}]


def test_a_slot_does_not_fail_with_an_earlier_one(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    ground.grow(DAYS[0], 4)
    storage.replace(storage.join(ground.source, "x.png"), b"no picture")
    assert ground.run(DAYS[0], "--budget.count", "0") == 3
    storage.replace(storage.join(ground.source, "x.png"), b"another file since it was planned")
    ground.grow(DAYS[1], 4)
    assert ground.run(DAYS[1], "--budget.count", "0") == 0
    assert "of an earlier slot: unit 000000-" in caplog.text
    assert f"not finished yet, to be run again with the settings that they have: {DAYS[0]}" in caplog.text
    assert {row["source_key"][:10] for row in corpus.rows_below(f"{ground.output}/data/slot={DAYS[1]}")} == {DAYS[1]}


def test_inputs_that_have_changed_can_be_set_aside(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    names = ground.grow(DAYS[0], 12)
    storage.replace(storage.join(ground.source, "x.png"), b"no picture")
    ground.plan(DAYS[0])
    drawn = draw(7, "night", 0.5)
    assert drawn
    changed, gone = names[1], next(name for name in names if not drawn.wants(name) and name != names[1])
    storage.replace(storage.join(ground.source, changed), b"another file since it was planned")
    storage.delete(storage.join(ground.source, gone))
    capsys.readouterr()
    assert ground.run(DAYS[0], "--budget.count", "1000") == 1
    assert "--on_changed set_aside goes on without it" in capsys.readouterr().err
    assert ground.run(DAYS[0], "--on_changed", "set_aside") == 0
    aside = {
        (row["key"], row["reason"])
        for entry in storage.list_files(storage.join(ground.output, "_quarantine"))
        for row in pq.read_table(io.BytesIO(storage.read(entry.url))).to_pylist()
    }
    assert aside == {(changed, "changed"), (gone, "changed"), ("x.png", "not an image")}
    for translator in ("original", "rain", "night"):
        made = {row["source_key"] for row in corpus.rows(ground.output) if row["translator"] == translator}
        expected = {*names} - {changed, gone}
        assert made == (set(filter(drawn.wants, expected)) if translator == "night" else expected)
    assert verify.main(["--input", ground.output]) == 0


def test_a_shard_that_is_gone_can_be_set_aside_whole(ground: Ground) -> None:
    source = Path(ground.source)
    source.mkdir()
    picture = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
    for name, keys in (("x", ["a", "b"]), ("y", ["c"])):
        pq.write_table(
            pa.table({"key": keys, "image": [picture] * len(keys), "city": keys}), source / f"{name}.parquet"
        )
    ground.plan(DAYS[0], "--limits.rows", "2")
    (source / "x.parquet").unlink()
    assert ground.run(DAYS[0], "--on_changed", "set_aside") == 0
    assert {row["source_key"] for row in corpus.rows(ground.output)} == {"c"}
    shards = storage.list_files(storage.join(ground.output, "data"))
    empty = [shard for shard in (pq.read_table(io.BytesIO(storage.read(e.url))) for e in shards) if not len(shard)]
    assert empty
    assert {shard.schema for shard in empty} == {pq.read_schema(io.BytesIO(storage.read(shards[0].url)))}
    assert verify.main(["--input", ground.output]) == 0


def test_another_schedule_gives_up_what_is_oldest_and_never_its_own(ground: Ground) -> None:
    for day in DAYS:
        ground.grow(day, 2)
        assert ground.run(day) == 0
    ground.grow("month", 2)
    assert ground.run("2026-10", "--schedule", "month", "--keep_slots", "2") == 0
    assert {row["source_key"].split("/")[0] for row in corpus.rows(ground.output)} == {"month", *DAYS[1:]}


@pytest.mark.parametrize("point", ["before manifest", "before success"])
def test_a_slot_that_is_run_while_another_ends_is_in_the_manifest(
    ground: Ground, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.grow(DAYS[0], 4)
    reached: list[str] = []

    def reach(name: str) -> None:
        if name == point and not reached:
            reached.append(name)
            ground.grow(DAYS[1], 3)
            assert ground.run(DAYS[1]) == 0

    monkeypatch.setattr(failpoints, "point", reach)
    assert ground.run(DAYS[0]) == 0
    assert reached
    manifest = pq.read_table(storage.join(ground.output, "_transdomain/manifest.parquet"))
    assert {unit[:6] for unit in manifest["unit"].to_pylist()} == {"000000", "000001"}
    assert json.loads(storage.read(storage.join(ground.output, "_SUCCESS")))["segments"] == 2
    assert verify.main(["--input", ground.output]) == 0


def test_readers_take_slots_and_translators_for_columns(ground: Ground) -> None:
    for day in DAYS[:2]:
        ground.grow(day, 5)
        assert ground.run(day) == 0
    expected = Counter((row["source_key"][:10], row["translator"]) for row in corpus.rows(ground.output))
    table = pq.read_table(f"{ground.output}/data").to_pylist()
    assert Counter((row["slot"], row["translator"]) for row in table) == expected
    shards = f"read_parquet('{ground.output}/data/**/*.parquet')"
    counted = duckdb.sql(f"select slot::varchar, translator, count(*) from {shards} group by all").fetchall()
    assert {(slot, name): count for slot, name, count in counted} == expected
    loaded = datasets.load_dataset(ground.output, split="train", cache_dir=f"{ground.output}-cache")
    assert (
        Counter((key[:10], name) for key, name in zip(loaded["source_key"], loaded["translator"], strict=True))
        == expected
    )
    store = open_store(f"{ground.output}/data/slot=2026-10-0*/translator=r*")
    assert store.rows == expected[DAYS[0], "rain"] + expected[DAYS[1], "rain"]
    assert store.ranges[0].shard == f"slot={DAYS[0]}/translator=rain/000000-000001.parquet"


def test_a_model_is_trained_on_a_glob_of_slots(ground: Ground, tmp_path: Path) -> None:
    for day in DAYS[:2]:
        ground.grow(day, 3)
        assert ground.run(day) == 0
    config = small.cyclegan(
        f"{ground.output}/data/slot=2026-10-*/translator=original",
        str(tmp_path / "run"),
        input_b=f"{ground.output}/data/slot=2026-10-*/translator=rain",
        steps=2,
    )
    assert small.train_here(config).step == 2


def test_two_sources_keep_their_common_columns(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (str(ground.file.parent / name) for name in ("one.parquet", "other.parquet"))
    picture = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
    pq.write_table(pa.table({"image": [picture] * 2, "city": ["Bonn", "Köln"], "extra": [1, 2]}), one)
    pq.write_table(pa.table({"image": [picture], "city": ["Ulm"]}), other)
    ground.wishes["sources"] = {"one": one, "other": other}
    assert ground.run(DAYS[0]) == 2
    said = capsys.readouterr().err
    assert "sources one, other have different columns (other has no column extra); name those to keep" in said
    assert ground.run(DAYS[0], "--labels", "city", "extra") == 2
    assert (
        "source other has no column extra, or not in all its shards; leave it out of --labels"
        in capsys.readouterr().err
    )
    assert ground.run(DAYS[0], "--labels", "city") == 0
    rows = [row for row in corpus.rows(ground.output) if row["translator"] == "rain"]
    assert [(row["source"], row["city"]) for row in rows] == [("one", "Bonn"), ("one", "Köln"), ("other", "Ulm")]
    assert "extra" not in rows[0]
    assert verify.main(["--input", ground.output]) == 0


class TestWhatCannotBeUsedIsRefusedInOneLine:
    """Each case ends with exit code 2 and one line, and writes nothing."""

    def check(self, ground: Ground, capsys: pytest.CaptureFixture[str], words: str, *options: str) -> None:
        assert ground.run(DAYS[0], *options) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
        assert not storage.exists(storage.join(ground.output, "_transdomain"))

    def test_a_source_that_vanished(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        self.check(ground, capsys, f"source cameras: {ground.source}: nothing there")

    def test_a_slot_in_the_future(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        self.check(ground, capsys, "slot 2999-01-01 is in the future", "--slot", "2999-01-01")

    def test_channels_that_do_not_fit(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.grow(DAYS[0], 1)
        grey = corpus.write_bundle(str(ground.file.parent / "grey"), in_channels=1)
        ground.wishes["translators"]["night"]["bundle"] = grey
        self.check(ground, capsys, "first images are RGB of 8 bits, and the model takes grey of 8 bits")

    def test_an_unknown_key_of_a_translator(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.wishes["translators"]["night"]["probabilty"] = 0.3
        self.check(ground, capsys, "unknown key translators.night.probabilty; did you mean probability?")

    def test_a_translator_without_a_bundle(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        del ground.wishes["translators"]["night"]["bundle"]
        self.check(ground, capsys, "translators.night.bundle is missing")

    def test_a_translator_that_is_only_a_word(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.wishes["translators"]["night"] = "bundle"
        self.check(ground, capsys, "translators.night is 'bundle': expected `option: value` lines below it")

    def test_a_name_that_stands_for_originals(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.wishes["translators"]["original"] = ground.wishes["translators"]["rain"]
        self.check(ground, capsys, "images that are not translated have this name")

    @pytest.mark.parametrize("wish", [["night"], "night", [], None])
    def test_translators_that_are_no_mapping(
        self, ground: Ground, capsys: pytest.CaptureFixture[str], wish: Any
    ) -> None:
        ground.wishes["translators"] = wish
        self.check(ground, capsys, "expected `name: value` lines below it")

    def test_a_name_that_yaml_takes_for_more(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.wishes["translators"][True] = ground.wishes["translators"].pop("night")
        self.check(
            ground, capsys, "translators: True is not a name; use a word, in quotes where YAML takes it for more"
        )

    def test_names_that_flags_cannot_tell_apart(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.wishes["translators"] |= {f"r{dash}x": ground.wishes["translators"]["rain"] for dash in "-_"}
        self.check(ground, capsys, "translators: r-x and r_x differ in - and _ alone")

    def test_several_values_for_one(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.wishes["translators"]["night"]["bundle"] = ["a", "b"]
        self.check(ground, capsys, "translators.night.bundle is ['a', 'b']: it takes one value")

    @pytest.mark.parametrize("name", ["sources", "schedule", "budget"])
    def test_an_option_without_a_value(self, ground: Ground, capsys: pytest.CaptureFixture[str], name: str) -> None:
        ground.wishes[name] = None
        self.check(ground, capsys, f"{name} is empty")

    def test_an_output_within_a_source(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        ground.grow(DAYS[0], 1)
        ground.wishes["output"] = ground.output = storage.join(ground.source, "out")
        words = f"{ground.output} is inside of {ground.source}, where it would be taken for input"
        self.check(ground, capsys, words)
        self.check(ground, capsys, words, "--dry_run")

    def test_a_column_that_would_be_overwritten(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        picture = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
        ground.wishes["sources"]["cameras"] = str(ground.file.parent / "in.parquet")
        pq.write_table(pa.table({"image": [picture], "image_a": [picture]}), ground.wishes["sources"]["cameras"])
        self.check(ground, capsys, "columns image would be overwritten", "--input_column", "image_a")

    def test_a_probability_above_one(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        self.check(ground, capsys, "probability is 1.5", "--translators.night.probability", "1.5")


@pytest.mark.parametrize("options", [("--dry_run",), ("--status",)])
def test_the_output_of_another_job_is_said_to_be_one(
    ground: Ground, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    ground.grow(DAYS[0], 1)
    assert pack.main(["--input", ground.source, "--output", ground.output, "--local"]) == 0
    assert ground.run(DAYS[0], *options) == 2
    assert f"{ground.output} is the output of jobs.pack" in capsys.readouterr().err


def test_a_dry_run_touches_nothing(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    ground.grow(DAYS[0], 5)
    assert ground.run(DAYS[0], "--dry_run") == 0
    assert f"would write {ground.output}: 5 inputs in 5 units" in capsys.readouterr().out
    assert not storage.exists(ground.output)


def test_a_source_at_another_place_may_not_hide_other_pictures(
    ground: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ground.grow(DAYS[0], 3)
    assert ground.run(DAYS[0]) == 0
    moved = tmp_path / "moved"
    shutil.copytree(ground.source, moved)
    ground.wishes["sources"] = {"cameras": str(moved)}
    same = (moved / names[0]).read_bytes()
    (moved / names[0]).write_bytes(images.encode(corpus.picture(9, 50, 50), images.Encoding()))
    assert ground.run(DAYS[1]) == 2
    said = capsys.readouterr().err
    assert "1 files of known names are others" in said
    assert names[0] in said
    (moved / names[0]).write_bytes(same)
    assert ground.run(DAYS[1]) == 0  # the same images: nothing is new
    assert ground.slots()[DAYS[1]] == set()


def test_data_that_was_given_up_and_is_still_there_is_named_and_goes_with_the_next_slot(ground: Ground) -> None:
    for day in DAYS[:2]:
        ground.grow(day, 2)
        assert ground.run(day) == 0
    record = json.dumps({"segment": 0, "slot": DAYS[0]}).encode()  # and then the run was killed
    storage.replace(Output(ground.output).retired(0), record)
    assert verify.main(["--input", ground.output]) == 1
    ground.grow(DAYS[2], 1)
    assert ground.run(DAYS[2], "--keep_slots", "2") == 0
    assert verify.main(["--input", ground.output]) == 0
    assert not [e for e in storage.list_files(f"{ground.output}/data") if DAYS[0] in e.name]
