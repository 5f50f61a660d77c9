"""Work that is measured again and again, in a process of its own with its own environment."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Protocol


class Contender(Protocol):
    """Something that does the same work with a fixed number of images again and again."""

    def prepare(self) -> Callable[[], int]:
        """Load what is needed and return the repetition, a function that returns the number of images it took."""
        ...


@contextlib.contextmanager
def running(contender: Contender, environment: Mapping[str, str]) -> Iterator[Callable[[], float]]:
    """Start a process that loads `contender` and runs it once; yield a function that measures it once, in images/s."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(contender, there), daemon=True)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # glibc reads it when the process starts
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    there.close()

    def measure() -> float:
        here.send(True)
        return _answer(here)

    try:
        _answer(here)
        yield measure
    finally:
        here.close()
        process.join(10)
        process.kill()


def _answer(pipe: Connection) -> float:
    try:
        answer = pipe.recv()
    except EOFError:
        raise RuntimeError("a process of the benchmark has ended by itself; was there enough memory?") from None
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return float(answer)


def _serve(contender: Contender, pipe: Connection) -> None:
    """Answer each request with a rate, or with a line that says what went wrong, until the other end closes."""
    try:
        repetition = contender.prepare()
        repetition()
        pipe.send(0.0)
        while True:
            pipe.recv()
            started = time.perf_counter()
            count = repetition()
            pipe.send(count / (time.perf_counter() - started))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:  # the other process raises it again
        pipe.send(f"{type(contender).__name__}: {type(error).__name__}: {error}")
