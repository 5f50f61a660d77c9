"""Runs on Ray whose drivers or workers are killed, and which run again, end the same, to the bit.

One kill of a driver per store belongs to the ordinary tests. The sweep is long; it prints a line per case.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import pytest

from pipeline import storage
from tests.chaos.driver import Driver
from tests.chaos.ground import IN_THE_WORKER, KINDS, Ground, Kind, commits, crash_at, points

_ROWS = 1
"""Rows of a unit in the sweep, as few as possible so that there are many writes between which to kill."""
_AT_ONCE = 2
_SEED = 20240613


def drive(ground: Ground, kind: Kind, output: str, rows: int, environment: Mapping[str, str] | None = None) -> Driver:
    job, arguments = ground.command(kind, output, rows)
    return Driver(job, arguments, ground.scratch / f"{output.rsplit('/', 1)[-1]}.log", environment or {})


def finish(ground: Ground, kind: Kind, output: str, rows: int) -> None:
    """Run the same command again, to its end, and compare."""
    with drive(ground, kind, output, rows) as driver:
        assert driver.wait() == 0, driver.log.read_text()[-3000:]
    ground.check(kind, output, rows)


@pytest.mark.parametrize("ground", ["s3", pytest.param("gs", marks=pytest.mark.long)], indirect=True, scope="module")
def test_a_killed_driver(ground: Ground) -> None:
    """The next run, which has nothing to do with Ray, finds what Ray's processes have left behind."""
    output = killed_driver(ground)
    assert ground.in_the_loop("parquet", output) == 0
    ground.check("parquet", output)


@pytest.mark.long
def test_a_killed_driver_and_another_one(ground: Ground) -> None:
    finish(ground, "parquet", killed_driver(ground), 4)


def killed_driver(ground: Ground) -> str:
    """Kill a driver whose worker is held between data and commit; return the output."""
    output, token = ground.new_output(), ground.new_token()
    with drive(ground, "parquet", output, 4, crash_at("hold:after data", token)) as driver:
        assert driver.wait_for(token.exists), driver.log.read_text()[-3000:]
        driver.kill()
        driver.end()
    assert not storage.exists(storage.join(output, "_SUCCESS"))
    return output


# --- the sweep: every case returns a line that says what was killed when ------------------------------------------


def kill_at(ground: Ground, kind: Kind, point: str) -> str:
    """Let the process that reaches `point` kill itself: a worker, which Ray replaces, or the driver."""
    output, token = ground.new_output(), ground.new_token()
    with drive(ground, kind, output, _ROWS, crash_at(point, token)) as driver:
        code = driver.wait()
        assert token.exists(), f"{point} was never reached"
        assert code == (0 if point in IN_THE_WORKER else -9), driver.log.read_text()[-3000:]
        left = commits(output)
    finish(ground, kind, output, _ROWS)
    return f"{'worker' if point in IN_THE_WORKER else 'driver'} killed at {point!r}, {left} commits at its end"


def hold_and_kill_driver(ground: Ground, kind: Kind, point: str) -> str:
    """Hold a worker at `point`, kill the driver, and begin the next run while the worker may still live."""
    output, token = ground.new_output(), ground.new_token()
    with drive(ground, kind, output, _ROWS, crash_at(f"hold:{point}", token)) as driver:
        assert driver.wait_for(token.exists), f"{point} was never reached"
        driver.kill()
        done = commits(output)
        finish(ground, kind, output, _ROWS)
    return f"driver killed with a worker held at {point!r}, {done} commits there"


class Moment(NamedTuple):
    """Moment of a kill: seconds after the first object of one of these appeared in the output."""

    after: Literal["plan", "data"]
    delay_s: float


def kill_driver_at(ground: Ground, kind: Kind, moment: Moment) -> str:
    """Kill the driver at a moment that no failpoint chose, and begin the next run at once."""
    output = ground.new_output()
    with drive(ground, kind, output, _ROWS) as driver:
        begun = driver.wait_for(lambda: has_begun(output, moment.after))
        reached = time.monotonic() + moment.delay_s
        ended = not (begun and driver.wait_for(lambda: time.monotonic() > reached))
        driver.kill()
        done = commits(output)
        finish(ground, kind, output, _ROWS)
    what = "driver had ended by itself before" if ended else "driver killed"
    return f"{what} {moment.delay_s:.2f} s after the first {moment.after} object, {done} of 16 units committed"


def has_begun(output: str, what: Literal["plan", "data"]) -> bool:
    return bool(storage.list_files(storage.join(output, "_transdomain/plan" if what == "plan" else "data")))


def draw_moments(ground: Ground, kind: Kind) -> list[Moment]:
    """Draw ten moments by a clean run on Ray: three while Ray starts, seven from the first data to the end.

    Moments drawn over the whole run would nearly all fall into the start, where nothing is written.
    """
    output = ground.new_output()
    with drive(ground, kind, output, _ROWS) as driver:
        assert driver.wait_for(lambda: has_begun(output, "plan")), driver.log.read_text()[-3000:]
        planned = time.monotonic()
        assert driver.wait_for(lambda: has_begun(output, "data")), driver.log.read_text()[-3000:]
        begun = time.monotonic()
        success = storage.join(output, "_SUCCESS")
        assert driver.wait_for(lambda: storage.stat_file(success) is not None), driver.log.read_text()[-3000:]
        complete = time.monotonic()
        assert driver.wait() == 0, driver.log.read_text()[-3000:]
    ground.check(kind, output, _ROWS)
    draw = random.Random(f"{_SEED} {kind} {ground.store}")
    starting = [Moment("plan", draw.uniform(0, begun - planned)) for _ in range(3)]
    return starting + [Moment("data", draw.uniform(0, complete - begun)) for _ in range(7)]


def two_at_once(ground: Ground, kind: Kind) -> str:
    output = ground.new_output()
    with drive(ground, kind, output, _ROWS) as one, drive(ground, kind, output, _ROWS) as other:
        codes = one.wait(), other.wait()
        assert codes == (0, 0), one.log.read_text()[-3000:]
    ground.check(kind, output, _ROWS)
    finish(ground, kind, output, _ROWS)
    return "two drivers started at once, both ended with 0"


Case = Callable[[], str]


def run_all(cases: Sequence[tuple[str, Case]], capsys: pytest.CaptureFixture[str]) -> None:
    """Run every case, some at once; each prints its line, and a failure keeps no other from running."""

    def attempt(job: tuple[str, Case]) -> str | None:
        name, case = job
        started = time.monotonic()
        try:
            line, failed = f"same to the bit: {case()}", False
        except Exception as error:  # reported at the end, with all other failures
            line, failed = f"FAILED: {type(error).__name__}: {error}", True
        with capsys.disabled():
            print(f"{name}: {line} ({time.monotonic() - started:.0f} s)", flush=True)
        return f"{name}: {line}" if failed else None

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        failures = [failure for failure in threads.map(attempt, cases) if failure]
    assert not failures, "\n".join(failures)


def named(ground: Ground, kind: Kind, case: Callable[..., str], *arguments: object) -> tuple[str, Case]:
    return f"{kind} on {ground.store}", lambda: case(ground, kind, *arguments)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["pack", "parquet", "webdataset"])
def test_every_point(ground: Ground, kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    at = [(kind, point) for point in points(kind)]
    if kind == "parquet":  # this is what a folder of files does differently
        at += [("folder", point) for point in ("before data", "after data", "after image")]
    cases = [named(ground, kind, kill_at, point) for kind, point in at]
    cases += [named(ground, kind, hold_and_kill_driver, point) for kind, point in at if point in IN_THE_WORKER]
    run_all(cases, capsys)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("job", ["pack", "translate"])
def test_random_moments(ground: Ground, job: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind: Kind = "pack" if job == "pack" else "parquet"
    cases = [named(ground, kind, kill_driver_at, moment) for moment in draw_moments(ground, kind)]
    run_all(cases, capsys)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_two_drivers_at_once(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    run_all([named(ground, kind, two_at_once) for kind in KINDS], capsys)
