"""SIGKILL of drivers and workers of a run on Ray, then the same command again: the same end, to the bit.

One kill of a driver a store belongs to the ordinary tests. The sweep is long; it prints a line a case.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import storage
from tests.chaos.driver import Driver
from tests.chaos.ground import IN_THE_WORKER, Ground, Kind, commits, crash_at, points

_ROWS = 1
"""The sweep's units are as small as can be, so that there are many writes to be killed between."""
_MOMENTS = 10
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


def test_a_killed_driver(ground: Ground) -> None:
    output, token = ground.new_output(), ground.new_token()
    with drive(ground, "parquet", output, 4, crash_at("hold:after data", token)) as driver:
        assert driver.wait_for(token.exists), driver.log.read_text()[-3000:]
        driver.kill()
        driver.end()
    assert not storage.exists(storage.join(output, "_SUCCESS"))
    finish(ground, "parquet", output, 4)


# --- the sweep: every case returns a line that says what was killed when ------------------------------------------


def kill_at(ground: Ground, kind: Kind, point: str) -> str:
    """The process that comes to `point` kills itself: a worker, which Ray replaces, or the driver."""
    output, token = ground.new_output(), ground.new_token()
    with drive(ground, kind, output, _ROWS, crash_at(point, token)) as driver:
        code = driver.wait()
        assert token.exists(), f"{point} was never reached"
        assert code == (0 if point in IN_THE_WORKER else -9), driver.log.read_text()[-3000:]
        left = commits(output)
    finish(ground, kind, output, _ROWS)
    return f"{'worker' if point in IN_THE_WORKER else 'driver'} killed at {point!r}, {left} commits at its end"


def hold_and_kill_driver(ground: Ground, kind: Kind, point: str) -> str:
    """A worker waits at `point`; meanwhile the driver is killed, and the next run begins while the worker may live."""
    output, token = ground.new_output(), ground.new_token()
    with drive(ground, kind, output, _ROWS, crash_at(f"hold:{point}", token)) as driver:
        assert driver.wait_for(token.exists), f"{point} was never reached"
        driver.kill()
        done = commits(output)
        finish(ground, kind, output, _ROWS)
    return f"driver killed with a worker held at {point!r}, {done} commits there"


def kill_driver_after(ground: Ground, kind: Kind, delay_s: float) -> str:
    """The driver is killed `delay_s` after its plan was written; the next run begins at once."""
    output = ground.new_output()
    plan = storage.join(output, "_transdomain/plan/000000.parquet")
    with drive(ground, kind, output, _ROWS) as driver:
        assert driver.wait_for(lambda: storage.stat_file(plan) is not None)
        planned = time.monotonic()
        ended = driver.wait_for(lambda: time.monotonic() - planned > delay_s) is False
        driver.kill()
        done = commits(output)
        finish(ground, kind, output, _ROWS)
    what = "driver had ended by itself before" if ended else "driver killed"
    return f"{what} {delay_s:.2f} s after the plan, {done} commits there"


def two_at_once(ground: Ground, kind: Kind) -> str:
    output = ground.new_output()
    with drive(ground, kind, output, _ROWS) as one, drive(ground, kind, output, _ROWS) as other:
        codes = one.wait(), other.wait()
        assert codes == (0, 0), one.log.read_text()[-3000:]
    ground.check(kind, output, _ROWS)
    finish(ground, kind, output, _ROWS)
    return "two drivers started at once, both ended with 0"


def duration_of_a_clean_run(ground: Ground, kind: Kind) -> float:
    """Seconds from the plan to the end on Ray; what comes out is what the plain loop makes."""
    output = ground.new_output()
    plan = storage.join(output, "_transdomain/plan/000000.parquet")
    with drive(ground, kind, output, _ROWS) as driver:
        assert driver.wait_for(lambda: storage.stat_file(plan) is not None)
        planned = time.monotonic()
        assert driver.wait() == 0, driver.log.read_text()[-3000:]
        duration = time.monotonic() - planned
    ground.check(kind, output, _ROWS)
    return duration


Case = Callable[[], str]


def run_all(cases: Sequence[tuple[str, Case]], capsys: pytest.CaptureFixture[str]) -> None:
    """Every case, some at once; each prints its line, and a failure keeps none of the others from being tried."""

    def attempt(named: tuple[str, Case]) -> str | None:
        name, case = named
        started = time.monotonic()
        try:
            line, failed = f"same to the bit: {case()}", False
        except Exception as error:  # reported at the end, with all others
            line, failed = f"FAILED: {type(error).__name__}: {error}", True
        with capsys.disabled():
            print(f"{name}: {line} ({time.monotonic() - started:.0f} s)", flush=True)
        return f"{name}: {line}" if failed else None

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        failures = [failure for failure in threads.map(attempt, cases) if failure]
    assert not failures, "\n".join(failures)


def sweep(ground: Ground, job: str) -> list[tuple[str, Case]]:
    """Every kill of one job on one store, by name."""
    store = "s3" if ground.prefix.startswith("s3://") else "local"
    kind: Kind = "pack" if job == "pack" else "parquet"
    cases: list[tuple[str, Case]] = []

    def add(kind: Kind, case: Callable[..., str], *arguments: object) -> None:
        cases.append((f"{kind} {store} {len(cases):02d}", lambda: case(ground, kind, *arguments)))

    for point in points(kind):
        add(kind, kill_at, point)
        if point in IN_THE_WORKER:
            add(kind, hold_and_kill_driver, point)
    if job == "translate":
        for point in ("after data", "after image"):
            add("folder", kill_at, point)
            add("folder", hold_and_kill_driver, point)
    add(kind, two_at_once)
    duration = duration_of_a_clean_run(ground, kind)
    draw = random.Random(f"{_SEED} {job} {store}")
    for i in range(_MOMENTS):
        moved: Kind = "folder" if job == "translate" and i % 2 else kind
        add(moved, kill_driver_after, draw.uniform(0, duration))
    return cases


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("job", ["pack", "translate"])
def test_the_sweep(ground: Ground, job: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_all(sweep(ground, job), capsys)
