"""Ground for the kills: one input, the outputs that are made of it, and the contents that they must have each time."""

from __future__ import annotations

import collections
import itertools
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline import failpoints, storage
from pipeline.augment.job import draw
from pipeline.engine.records.layout import form_of_data
from tests import corpus
from tests.chaos import child

Kind = Literal["pack", "parquet", "folder", "webdataset", "augment"]
"""Jobs: pack, translate into Parquet shards, into a folder of files, into tars, a slot of augment."""
KINDS: tuple[Kind, ...] = ("pack", "parquet", "folder", "webdataset", "augment")
SEED = 5

IN_THE_WORKER = ("before data", "after data", "after image", "after quarantine", "after commit")
"""Failpoints that the publisher of a unit reaches; the driver reaches the others."""


def crash_at(point: str, token: Path) -> dict[str, str]:
    """Return the environment that turns a failpoint on (`hold:NAME` to wait there)."""
    return {"TRANSDOMAIN_CRASH": point, "TRANSDOMAIN_CRASH_TOKEN": str(token)}


def points(kind: Kind) -> list[str]:
    """Return the failpoints that such a job reaches."""
    return [point for point in failpoints.POINTS if kind == "folder" or point != "after image"]


class Ground:
    """13 good images and 3 bad ones on one store, with any number of outputs next to them."""

    def __init__(self, prefix: str, scratch: Path) -> None:
        """Prepare below `prefix`; `scratch` is a local folder for tokens and logs, wherever `prefix` is."""
        self.prefix, self.scratch = prefix, scratch
        self.store = prefix.split("://")[0] if "://" in prefix else "local"
        self.input = corpus.write_folder(storage.join(prefix, "in"), 13)
        self.bundle = corpus.write_bundle(storage.join(prefix, "bundle"))
        self.keys = sorted(entry.name for entry in storage.list_files(self.input))
        self._augment = ["--config", str(scratch / "augment.yaml"), "--sources", "one", self.input, "--seed", str(SEED)]
        self._augment += ["--budget.share", "0.9"]
        said = {"night": {"bundle": self.bundle, "probability": 0.5}}
        (scratch / "augment.yaml").write_text(yaml.safe_dump({"translators": said}))
        self._clean: dict[tuple[Kind, int], Mapping[str, Any]] = {}

    def new_output(self) -> str:
        return storage.join(self.prefix, f"out-{uuid.uuid4().hex[:12]}")

    def new_token(self) -> Path:
        return self.scratch / f"token-{uuid.uuid4().hex[:12]}"

    def command(self, kind: Kind, output: str, rows: int = 4) -> tuple[str, list[str]]:
        """Return the job's name and its arguments, without --local; `rows` is the size of a unit."""
        arguments = ["--input", self.input, "--output", output, "--limits.rows", str(rows)]
        if kind == "pack":
            return "pack", arguments
        if kind == "augment":
            return "augment", [*self._augment, *arguments[2:], "--slot", "2026-10-01", "--resources.threads", "1"]
        # One thread, since several tests at once on few cores would mostly wait for each other's threads.
        return "translate", [*arguments, "--bundle", self.bundle, "--form", kind, "--resources.threads", "1"]

    def in_the_loop(self, kind: Kind, output: str, rows: int = 4, *, crash: str = "") -> int:
        """Run the job in the plain loop, in a child process that may be killed at `crash`; return its exit code."""
        job, arguments = self.command(kind, output, rows)
        return child.run(job, [*arguments, "--local"], crash_at(crash, self.new_token()) if crash else {})

    def check(self, kind: Kind, output: str, rows: int = 4) -> None:
        """Check that `output` is what a run that was never killed makes, with each input in it exactly once."""
        assert_same(corpus.contents(output), self._contents_of_a_clean_run(kind, rows))
        assert sorted(keys_of(output, kind)) == self._expected_keys(kind)
        assert storage.exists(storage.join(output, "_SUCCESS"))

    def _expected_keys(self, kind: Kind) -> list[str]:
        """Return every key as often as it must be accounted for."""
        drawn = draw(SEED, "night", 0.5)
        assert drawn
        return sorted([*self.keys, *filter(drawn.wants, self.keys)]) if kind == "augment" else self.keys

    def _contents_of_a_clean_run(self, kind: Kind, rows: int) -> Mapping[str, Any]:
        if (kind, rows) not in self._clean:
            output = self.new_output()
            assert self.in_the_loop(kind, output, rows) == 0
            self._clean[kind, rows] = corpus.contents(output)
        return self._clean[kind, rows]


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check for equality to the bit. A failure names the objects; their bytes would say nothing."""
    differing = [name for name in found.keys() & expected.keys() if found[name] != expected[name]]
    assert (sorted(found.keys() - expected.keys()), sorted(expected.keys() - found.keys()), differing) == ([], [], [])


def keys_of(output: str, kind: Kind) -> list[str]:
    """Read from the objects the source key of every row that an output accounts for, as often as it does."""
    counts: collections.Counter[str] = collections.Counter()
    shards = storage.list_files(storage.join(output, "_transdomain/verdicts" if kind == "folder" else "data"))
    quarantine = storage.list_files(storage.join(output, "_quarantine"))
    for entry in itertools.chain(shards, quarantine):
        rows = form_of_data(entry.name).columns(storage.read(entry.url), ["key", "source_key"])
        counts.update(rows["source_key" if "source_key" in rows.column_names else "key"].to_pylist())
    return list(counts.elements())


def commits(output: str) -> int:
    """Return the number of committed units."""
    return len(storage.list_files(storage.join(output, "_transdomain/commits"), ".json"))
