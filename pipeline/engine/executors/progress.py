"""Progress of a run: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import terminal
from pipeline.engine.publishing.steps import Receipt

log = logging.getLogger("transdomain")
_LINE_EVERY_S = 30.0


def shown(receipts: Iterator[Receipt], title: str, units: int) -> Iterator[Receipt]:
    """Yield the receipts as they come, and show the count on stderr."""
    if terminal.raw(sys.stderr).isatty():
        yield from _bar(receipts, title, units)
    else:
        yield from _lines(receipts, title, units)


def _bar(receipts: Iterator[Receipt], title: str, units: int) -> Iterator[Receipt]:
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("units"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    started, ended = time.monotonic(), list[Receipt]()
    with Progress(*columns, console=terminal.console(sys.stderr)) as bar:
        task = bar.add_task(terminal.escaped(title), total=units, rate="")
        for receipt in receipts:
            ended.append(receipt)
            bar.update(task, advance=1, rate=_rate(ended, time.monotonic() - started))
            yield receipt


def _lines(receipts: Iterator[Receipt], title: str, units: int) -> Iterator[Receipt]:
    started, ended = time.monotonic(), list[Receipt]()
    said = started
    for receipt in receipts:
        ended.append(receipt)
        if time.monotonic() - said > _LINE_EVERY_S:
            said = time.monotonic()
            log.info("%s: %d of %d units, %s", title, len(ended), units, _rate(ended, said - started))
        yield receipt


def _rate(ended: Sequence[Receipt], seconds: float) -> str:
    rows = sum(receipt.ok for receipt in ended)
    bad = sum(receipt.quarantined for receipt in ended)
    return f"{rows / max(seconds, 1e-9):.1f} img/s" + (f", {bad} quarantined" if bad else "")
