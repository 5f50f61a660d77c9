"""Count of the rows of an output that are quarantined so far, earlier runs included, for its error budget."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pyarrow as pa

from pipeline.engine.completion import finish
from pipeline.engine.publishing.steps import Receipt
from pipeline.engine.records.layout import Output, unit_ids
from pipeline.engine.records.units import Segment, segment_of
from pipeline.stores.mark import Totals
from pipeline.usage import NOTHING


class Tally:
    """Counts over the segments of a run: from commits that already existed, and from receipts as they come.

    A thread reads the commits in the background, since tens of thousands of them take minutes on an object store.
    """

    def __init__(
        self,
        output: Output,
        segments: Sequence[Segment],
        committed: Collection[str],
        *,
        skipped_are_judged: bool = False,
    ) -> None:
        """Count the units of `segments`, of which some are `committed`.

        Rows that are skipped count as seen where they `are_judged`.
        """
        self.output = output
        self.segments = {segment.number for segment in segments}
        self.rows = sum(segment.rows for segment in segments if not segment.again)
        """Planned rows, each counted once."""
        self._again = {segment.number for segment in segments if segment.again}
        units = [unit for segment in segments for unit in unit_ids(segment) if unit in committed]
        self._skipped_are_judged = skipped_are_judged
        self._inputs = self._quarantined = self._skipped = 0
        self.done, self.usage = 0, NOTHING
        """Units that this run has made, and what was used for them and for those that failed."""
        self._stopped = Event()
        self._thread = ThreadPoolExecutor(1)
        self._before: Future[tuple[pa.Table, Totals]] = self._thread.submit(self._read, segments, units)

    def _read(self, segments: Sequence[Segment], units: Sequence[str]) -> tuple[pa.Table, Totals]:
        commits = finish.read_commits(self.output, segments, units)
        manifest = finish.manifest_table(itertools.takewhile(lambda _: not self._stopped.is_set(), commits))
        return manifest, finish.totals(manifest, segments)

    def count(self, receipt: Receipt) -> None:
        """Add the result of one unit."""
        self.done, self.usage = self.done + (receipt.status == "done"), self.usage.plus(receipt.usage)
        twice = receipt.inputs if segment_of(receipt.task.unit) in self._again else 0  # it was quarantined before
        self._inputs += receipt.inputs - twice
        self._quarantined += receipt.quarantined - twice
        self._skipped += receipt.skipped

    @property
    def committed(self) -> tuple[int, int]:
        """Return the rows in commits and how many of them are quarantined, as far as earlier commits are read."""
        rows = self._inputs
        if self._before.done() and not self._before.exception():
            _, total = self._before.result()
            return rows + total.inputs, self._quarantined + total.quarantined
        return rows, self._quarantined

    def known(self) -> tuple[int, int] | None:
        """Return how many rows were seen and how many of them are quarantined; None while earlier commits are being
        read.

        Raises ConflictError where one of the commits is not that of its unit.
        """
        if not self._before.done():
            return None
        _, total = self._before.result()
        unseen = 0 if self._skipped_are_judged else self._skipped + total.skipped
        return self._inputs + total.inputs - unseen, self._quarantined + total.quarantined

    def manifest(self) -> pa.Table:
        """Return the manifest's rows for units that were committed before the run; wait for them."""
        return self._before.result()[0]

    def stop(self) -> None:
        """Stop reading commits: the run has ended, or failed."""
        self._stopped.set()
        self._thread.shutdown(wait=False)
