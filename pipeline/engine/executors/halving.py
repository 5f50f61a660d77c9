"""A unit that ends its processes, in halves: each in a process of its own, down to the row that is at fault.

A row is blamed only where it alone has ended two fresh processes, while a good picture went through them before it, and
through another one after it. So neither a machine that kills whatever runs on it nor the kernel, where memory is short,
costs a healthy image.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa
from ray import cloudpickle

from pipeline.cluster import watchdog
from pipeline.engine.executors.blocks import from_block, to_block
from pipeline.engine.publishing.apart import Apart
from pipeline.engine.publishing.steps import InFlight, Stage, Task
from pipeline.engine.records.account import FATAL, Batch, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.errors import one_line
from pipeline.stores import SHARD

log = logging.getLogger("transdomain")

START_S = 600.0
"""Seconds within which a process is to start, to load a model and to let a good picture through."""

_NEVER_S = 7 * 24 * 3600.0

_CHILD = "import sys; sys.path[:] = {path!r}; from pipeline.engine.executors import halving; halving.child()"


class _Death(NamedTuple):
    """How a process ended in the midst of some rows."""

    signal: int = 0
    stalled: bool = False
    short_of_memory: bool = False

    def told(self, stall_s: float) -> str:
        if self.stalled:
            return f"has no end within {stall_s:.0f} s"
        return f"ends its process ({signal.Signals(self.signal).name if self.signal else 'it exits'})"


class _MachineError(Exception):
    """Failure that is not a row's."""


def in_halves(stage: Stage, given: Unit | Batch) -> Batch:
    """Return what `stage` makes of a unit, and quarantine the rows that end a process.

    Raises FatalUnitError where it is not the rows that end them, and RuntimeError for an ordinary failure.
    """
    apart = stage.apart
    assert apart is not None
    log.warning(
        "unit %s has ended %d processes in %s; it goes on in halves, each in a process of its own",
        given.id if isinstance(given, Unit) else given.unit.id, watchdog.MAX_DEATHS, stage.name,
    )  # fmt: skip
    batch = apart.read(given) if isinstance(given, Unit) and apart.read else given
    assert isinstance(batch, Batch)
    if not len(batch.rows):
        raise watchdog.FatalUnitError("processes ended in it, and it has no rows that could be at fault")
    with tempfile.TemporaryDirectory(prefix="halves-") as folder, contextlib.ExitStack() as children:
        halves = _Halves(stage, apart, batch, Path(folder), children)
        try:
            parts = list(halves.made_of(0, len(batch.rows)))
        except _MachineError as error:
            raise watchdog.FatalUnitError(str(error)) from error
        return apart.join(batch, [*parts, halves.nothing()])


class _Halves:
    """Rows of one unit, some at a time, in processes that are started anew where one has ended."""

    def __init__(self, stage: Stage, apart: Apart, batch: Batch, folder: Path, children: contextlib.ExitStack) -> None:
        self._stage, self._batch, self._folder, self._children = stage, batch, folder, children
        self._child: _Child | None = None
        (folder / "make").write_bytes(cloudpickle.dumps(apart.make))
        _write(folder / "batch", batch)
        _write(folder / "control", apart.control(batch))

    def made_of(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the results of these rows, in order."""
        if not self._run(start, stop):
            watchdog.made_progress(stop - start)
            yield _read(self._folder / f"{start}-{stop}")
        elif stop - start > 1:
            middle = (start + stop) // 2
            yield from self.made_of(start, middle)
            yield from self.made_of(middle, stop)
        else:
            yield self._alone(start)

    def nothing(self) -> Batch:
        """Return a result without rows, whose columns are those of the others."""
        made = _read(self._folder / "control-made")
        pixels = None if made.pixels is None else made.pixels.slice(0, 0)
        return Batch(self._batch.unit, made.rows.slice(0, 0), pixels=pixels)

    def _alone(self, row: int) -> Batch:
        """Return what becomes of one row in fresh processes: it is blamed where it ends two of them."""
        deaths = list[_Death]()
        for _ in range(2):
            self._end_child()
            if not (death := self._run(row, row + 1)):
                return _read(self._folder / f"{row}-{row + 1}")
            deaths.append(death)
        self._run(row, row)  # a good picture alone: raises where it does not pass
        key, shard = (self._batch.rows[name][row].as_py() for name in ("key", SHARD))
        if any(each.short_of_memory for each in deaths):
            raise _MachineError(
                f"{key} alone was killed in two processes while memory ran out; run where there is more, or with a "
                "smaller --limits.decoded_mb"
            )
        why = f"{deaths[-1].told(self._stage.stall_s)}, twice, where a good image passes before and after it"
        log.warning("%s is quarantined in %s: it %s", key, self._stage.name, why)
        watchdog.made_progress(1)
        return replace(self.nothing(), quarantined=(Quarantined(key, shard, self._stage.name, FATAL, why),))

    def _run(self, start: int, stop: int) -> _Death | None:
        """Run rows in the process that is there, or in a fresh one after a good picture; return how it died of them.

        Raises _MachineError where the good picture does not pass, and RuntimeError for an ordinary failure of the rows.
        """
        before = _kernel_kills()
        if self._child is None:
            self._child = self._children.enter_context(_started(self._folder))
            if death := self._child.wait_for("ready", START_S):
                raise _MachineError(
                    f"a good image {death.told(START_S)}, too: the model or the machine is at fault, and no image"
                )
        if start == stop:
            return None
        self._child.give(start, stop)
        if death := self._child.wait_for("done", self._stage.stall_s):
            self._child = None
            return death._replace(short_of_memory=death.signal == signal.SIGKILL and _kernel_kills() > before)
        return None

    def _end_child(self) -> None:
        if self._child:
            self._child.end()
            self._child = None


class _Child:
    """Process that runs the rows that it is given."""

    def __init__(self, process: subprocess.Popen[bytes], lines: IO[bytes]) -> None:
        self._process, self._lines = process, lines
        self._said = list[str]()
        self._poll = select.poll()
        self._poll.register(lines, select.POLLIN)

    def give(self, start: int, stop: int) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `wait_for` notices
            self._process.stdin.write(b"%d %d\n" % (start, stop))
            self._process.stdin.flush()

    def wait_for(self, word: str, silent_s: float) -> _Death | None:
        """Wait until the process says a word; return how it died before. One that is silent for so long is ended.

        Raises RuntimeError for an ordinary failure that it tells.
        """
        heard = time.monotonic()
        while True:
            watchdog.made_progress(0)  # how long this may take is decided here
            if self._poll.poll(500):
                data = self._lines.read(65_536)
                if not data:
                    code = self._process.wait()
                    return _Death(signal=max(0, -code))
                heard = time.monotonic()
                for line in data.decode(errors="replace").splitlines():
                    if line.startswith("error "):
                        raise RuntimeError(line.removeprefix("error "))
                    if line == word:
                        return None
            elif time.monotonic() - heard > silent_s:
                self.end()
                return _Death(stalled=True)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[_Child]:
    reading, writing = os.pipe()
    command = [sys.executable, "-c", _CHILD.format(path=sys.path), str(folder), str(writing)]
    with (
        open(reading, "rb", buffering=0) as lines,
        subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writing]) as process,
    ):
        os.close(writing)
        child = _Child(process, lines)
        try:
            yield child
        finally:
            child.end()


def child() -> None:
    """Run a good picture through the stage, then the rows that the parent asks for, and say so in its pipe."""
    folder, writing = Path(sys.argv[1]), int(sys.argv[2])
    asked = queue.SimpleQueue[tuple[int, int]]()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    threading.Thread(target=_tell_progress, args=(lambda: say("alive"),), daemon=True).start()

    pipe = open(writing, "wb", buffering=0)  # noqa: SIM115 - until the process ends

    def say(line: str) -> None:
        pipe.write(f"{line}\n".encode())

    try:
        step = cloudpickle.loads((folder / "make").read_bytes())()
        made = step(_read(folder / "control"))
        if len(made.rows) + made.skipped != 1 or made.quarantined:
            raise RuntimeError(f"a good image does not pass: {made.quarantined}")
        _write(folder / "control-made", made)
        say("ready")
        while True:
            start, stop = asked.get()
            batch = _read(folder / "batch")
            rows = Batch(batch.unit, batch.rows.slice(start, stop - start), pixels=batch.pixels)
            with watchdog.watched(_NEVER_S):  # the parent watches; of all threads, as they make progress
                _write(folder / f"{start}-{stop}", step(rows))
            say("done")
    except Exception as error:  # the parent raises it
        say(f"error {one_line(error)}")


def _tell_progress(tell: Callable[[], None]) -> None:
    told = 0.0
    while True:
        time.sleep(0.5)
        if (at := watchdog.last_progress_s()) > told:
            told = at
            tell()


def _listen(asked: queue.SimpleQueue[tuple[int, int]]) -> None:
    """Take what the parent asks for, and end with it, whatever goes on here."""
    for line in sys.stdin.buffer:
        start, stop = map(int, line.split())
        asked.put((start, stop))
    os._exit(1)


def _write(path: Path, batch: Batch) -> None:
    table = to_block(InFlight(Task(0, batch.unit.id), (batch,), 0.0))
    with pa.OSFile(f"{path}.part", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    os.replace(f"{path}.part", path)


def _read(path: Path) -> Batch:
    with pa.memory_map(str(path)) as file:
        item = from_block(pa.ipc.open_file(file).read_all())
    assert isinstance(item, InFlight)
    return item.batches[0]


def _kernel_kills() -> int:
    """Return how many processes the kernel has killed here since memory was short, of all on this machine."""
    found = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            lines = (line.split() for line in Path(path).read_text().splitlines())
            found += sum(int(words[1]) for words in lines if words[0] == "oom_kill")
    return found
