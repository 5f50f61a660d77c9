"""Rows that end or hang their process: they are found and set aside, and cost nothing but themselves.

Ray Data starts a process that died again and gives it the same unit, for ever. So a process that hangs is ended, and
whoever begins a unit says so outside of its process (`on_ray` counts). After `MAX_DEATHS` deaths the unit goes through
that stage in a child process, in small pieces, and the rows of a piece that ends the child one by one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import multiprocessing
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from pipeline.engine.account import Batch, Rejected
from pipeline.engine.plan import Unit, rows_between
from pipeline.stores import read_rows

MAX_DEATHS = 3
"""Processes that a unit may end in a stage before its rows are looked at; a lost node costs a process, too."""

_REASON = "fatal"
_WATCHDOG_EXIT = 1


class _Watch:
    """The watchdog of this process, whose units come one after the other."""

    stall_s: float | None = None
    wound_s = 0.0
    """Of time.monotonic()."""


@contextlib.contextmanager
def watched(stall_s: float) -> Iterator[None]:
    """End this process where no row is `got_on` with for so many seconds."""
    _Watch.stall_s = stall_s
    _wind()
    try:
        yield
    finally:
        _Watch.stall_s = None
        faulthandler.cancel_dump_traceback_later()


def got_on() -> None:
    """To be called by a stage after each row, or each few."""
    if _Watch.stall_s is not None and time.monotonic() - _Watch.wound_s > min(1.0, _Watch.stall_s / 4):
        _wind()


def _wind() -> None:
    assert _Watch.stall_s is not None
    _Watch.wound_s = time.monotonic()
    # A thread of C, since what hangs may hold the interpreter. It says where on the descriptor of stderr, and exits.
    faulthandler.dump_traceback_later(_Watch.stall_s, exit=True, file=2)


def row_by_row(make: bytes, value: Unit | Batch, stage: str, stall_s: float) -> Batch:
    """What a stage gives of a unit or a batch, without the rows that end or hang its process.

    `make` is the pickled function that makes the stage; `stage` is its name, for the quarantine. The rows go through a
    child process, in pieces of about the square root of their number, and those of a piece that ended it one by one.
    Raises RuntimeError where the stage raises, and where it cannot even be made.
    """
    rows = value.rows if isinstance(value, Unit) else len(value.rows)
    with contextlib.closing(_Child(make, stall_s)) as child:
        nothing = child.run(_piece(value, 0, 0))  # as rows without rows it has all columns
        if isinstance(nothing, str):
            raise RuntimeError(f"ends its process ({nothing}) before the first row")
        made, fatal = [nothing], list[Rejected]()
        size = max(1, math.isqrt(rows))
        for first in range(0, rows, size):
            last = min(first + size, rows)
            together = child.run(_piece(value, first, last))
            if isinstance(together, Batch):
                made.append(together)
                continue
            for i in range(first, last):
                alone = child.run(_piece(value, i, i + 1))
                if isinstance(alone, Batch):
                    made.append(alone)
                else:
                    fatal.append(_rejected(_piece(value, i, i + 1), stage, alone))
    before = value if isinstance(value, Batch) else None
    return Batch(
        value if isinstance(value, Unit) else value.unit,
        pa.concat_tables([batch.rows for batch in made]).combine_chunks(),
        (*(before.rejected if before else ()), *(row for batch in made for row in batch.rejected), *fatal),
        (before.skipped if before else 0) + sum(batch.skipped for batch in made),
    )


def _piece(value: Unit | Batch, first: int, last: int) -> Unit | Batch:
    if isinstance(value, Batch):
        return Batch(value.unit, value.rows.slice(first, last - first))
    return value._replace(ranges=tuple(rows_between(value.ranges, first, last)))


def _rejected(row: Unit | Batch, stage: str, end: str) -> Rejected:
    found = row.rows if isinstance(row, Batch) else read_rows(row.ranges, [])
    key, shard = (found[name][0].as_py() for name in ("key", "source_shard"))
    return Rejected(key, shard, stage, _REASON, f"ends its process: {end}")


class _Child:
    """A process that makes a stage and carries pieces through it; after its end the next piece has another one."""

    def __init__(self, make: bytes, stall_s: float) -> None:
        self._make, self._stall_s = make, stall_s
        self._process: Any = None
        self._pipe: Any = None

    def run(self, piece: Unit | Batch) -> Batch | str:
        """What the stage gives, or how the process ended. Raises RuntimeError where the stage raises."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send(piece)
            while not self._pipe.poll(1):
                got_on()  # it has a watchdog of its own
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            return self._end()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def _start(self) -> None:
        # Not forked: threads and the GPU's driver do not survive that.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._make, self._stall_s), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> str:
        self._process.join()
        code = self._process.exitcode
        self._pipe.close()
        self._process = None
        if code == _WATCHDOG_EXIT:
            return f"no progress for {self._stall_s:g} s"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(pipe: Connection, make: bytes, stall_s: float) -> None:
    try:
        with watched(stall_s):
            stage = pickle.loads(make)()
    except Exception as error:  # becomes the unit's failure
        pipe.recv()
        pipe.send(f"{type(error).__name__}: {error}")
        return
    while True:
        try:
            piece = pipe.recv()
        except EOFError:
            sys.exit()
        try:
            with watched(stall_s):
                answer: Any = stage(piece)
        except Exception as error:  # becomes the unit's failure
            answer = f"{type(error).__name__}: {error}"
        pipe.send(answer)
