"""Month of nightly augmentation over a store that grows, with accidents, against the same month without any.

Nights are killed at failpoints and at random moments, run twice at once, and run two at once; all on S3, most in the
plain loop, some on Ray. In the end each input is in exactly one slot, was augmented exactly as its draw says, and every
byte is that of the month without accidents.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import augment, verify
from pipeline import images, storage
from pipeline.augment.job import draw
from pipeline.engine.records.layout import Output, load_segments, load_units
from tests import corpus
from tests.chaos import child
from tests.chaos.driver import Driver
from tests.chaos.ground import assert_same, crash_at, points
from tests.conftest import new_prefix

_SEED = 11
_SHARES = {"night": 0.5, "rain": 0.3}
_DAYS = [f"2026-10-{day:02d}" for day in range(1, 31)]


class Month:
    """Source that grows by the night, and outputs that are made of it."""

    def __init__(self, prefix: str, scratch: Path) -> None:
        self.prefix, self.scratch = prefix, scratch
        self.source = storage.join(prefix, "in")
        self.chance = random.Random(_SEED)
        self.arrivals: dict[str, list[str]] = {}
        self.happened: Counter[str] = Counter()
        translators = {
            name: {"bundle": corpus.write_bundle(storage.join(prefix, name), width=width), "probability": share}
            for (name, share), width in zip(_SHARES.items(), (4, 6), strict=True)
        }
        (scratch / "augment.yaml").write_text(
            yaml.safe_dump(
                {
                    "sources": {"cameras": self.source},
                    "translators": translators,
                    "limits": {"rows": 3},
                    "budget": {"share": 1.0},
                    "resources": {"threads": 1},
                    "seed": _SEED,
                }
            )
        )

    def arguments(self, output: str, slot: str) -> list[str]:
        return ["--config", str(self.scratch / "augment.yaml"), "--output", output, "--slot", slot]

    def grow(self, day: str) -> None:
        """Add the images of a night: sometimes none, sometimes a bad one."""
        names = [f"{day}/{i}.png" for i in range(self.chance.choice([0, 3, 4, 5, 6] if self.arrivals else [5]))]
        for i, name in enumerate(names):
            good = images.encode(corpus.picture(self.chance.randrange(10**6)), images.Encoding(codec="png"))
            data = b"no picture" if i == 0 and self.chance.random() < 0.3 else good
            storage.replace(storage.join(self.source, name), data)
        self.arrivals[day] = names

    def run(self, output: str, slot: str, *, crash: str = "") -> int:
        """Run a night in the plain loop, in a process of its own."""
        token = self.scratch / f"token-{self.chance.random()}"
        environment = crash_at(crash, token) if crash else {}
        return child.run("augment", [*self.arguments(output, slot), "--local"], environment)

    def killed(self, output: str, day: str) -> None:
        for point in self.chance.sample(points("augment"), 3):
            self.happened["killed at a point"] += self.run(output, day, crash=point) == -9
        assert self.run(output, day) == 0

    def twice_at_once(self, output: str, day: str) -> None:
        point = self.chance.choice(points("augment"))
        with ThreadPoolExecutor(2) as threads:
            calm, other = threads.submit(self.run, output, day), threads.submit(self.run, output, day, crash=point)
            assert calm.result() == 0
            assert other.result() in (0, -9)
            self.happened["killed beside another"] += other.result() == -9
        self.happened["twice at once"] += 1

    def two_at_once(self, output: str, day: str, next_day: str) -> None:
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(lambda slot: self.run(output, slot), (day, next_day))) == [0, 0]
        self.happened["two slots at once"] += 1

    def killed_on_ray(self, output: str, day: str) -> None:
        """Kill the driver some moments after the plan exists; whatever still lives may go on meanwhile."""
        planned = len(load_segments(Output(output)))
        with Driver("augment", self.arguments(output, day), self.scratch / f"{day}-killed.log", {}) as driver:
            assert driver.wait_for(lambda: len(load_segments(Output(output))) > planned), driver.log.read_text()[-2000:]
            time.sleep(self.chance.uniform(0, 12))
            self.happened["driver killed on Ray"] += driver.running()
            driver.kill()
        with Driver("augment", self.arguments(output, day), self.scratch / f"{day}-again.log", {}) as driver:
            assert driver.wait() == 0, driver.log.read_text()[-2000:]


def slots_of(output: str) -> dict[str, set[str]]:
    """Return the inputs of each slot, in the order in which the slots were planned."""
    found: dict[str, set[str]] = {}
    for segment in load_segments(Output(output)):
        units = load_units(Output(output), segment.number)
        assert segment.label not in found
        found[segment.label] = {piece.shard for unit in units for piece in unit.ranges}
    return found


def augmented(output: str) -> Counter[tuple[Any, ...]]:
    return Counter((row["slot"], row["translator"], row["source_key"]) for row in rows_with_slots(output))


def rows_with_slots(output: str) -> list[dict[str, Any]]:
    found = []
    for slot in slots_of(output):
        found += [row | {"slot": slot} for row in corpus.rows_below(storage.join(output, f"data/slot={slot}"))]
    return found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_month_with_accidents_ends_like_one_without(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    month = Month(new_prefix("s3", request), tmp_path)
    output, calm = (storage.join(month.prefix, name) for name in ("out", "calm"))
    sizes: list[list[str]] = []
    days = iter(_DAYS)
    for number, day in enumerate(days):
        together = [day]
        month.grow(day)
        match number % 5:
            case 0 if number % 10 == 0:
                month.killed_on_ray(output, day)
            case 1:
                month.twice_at_once(output, day)
            case 2:
                together.append(next(days))
                month.grow(together[1])
                month.two_at_once(output, *together)
            case 3:
                assert month.run(output, day) == 0
                month.happened["undisturbed"] += 1
            case _:
                month.killed(output, day)
        sizes.append(together)
    print(dict(month.happened))
    assert verify.main(["--input", output]) == 0

    found = slots_of(output)
    assert sorted(found) == _DAYS
    inputs = [name for names in month.arrivals.values() for name in names]
    assert Counter(name for names in found.values() for name in names) == Counter(inputs)
    for together in sizes:
        arrived = {name for day in together for name in month.arrivals[day]}
        assert set().union(*(found[day] for day in together)) == arrived

    good = {name for name in inputs if storage.read(storage.join(month.source, name)) != b"no picture"}
    expected = Counter(
        (slot, translator, name)
        for slot, names in found.items()
        for name in names & good
        for translator, drawn in [("original", None), *((n, draw(_SEED, n, p)) for n, p in _SHARES.items())]
        if drawn is None or drawn.wants(name)
    )
    assert augmented(output) == expected

    # The same month runs again, each slot once and undisturbed, in the order in which they were planned.
    source = storage.join(month.prefix, "in-calm")
    for slot, names in found.items():
        for name in names:
            storage.replace(storage.join(source, name), storage.read(storage.join(month.source, name)))
        arguments = [*month.arguments(calm, slot), "--sources", "cameras", source, "--local"]
        assert augment.main(arguments) == 0
    assert_same(corpus.contents(output), corpus.contents(calm))
