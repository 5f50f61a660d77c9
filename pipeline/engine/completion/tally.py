"""How many rows of an output were set aside so far, earlier runs included: what its error budget is judged by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pyarrow as pa

from pipeline.engine.completion import finish
from pipeline.engine.publishing.steps import Receipt
from pipeline.engine.records.layout import Output, unit_ids
from pipeline.engine.records.units import Segment
from pipeline.stores.mark import Totals


class Tally:
    """Counts of the segments that a run is about: of the commits that were there, and of the receipts that come.

    The commits are read on a thread beside the work, since tens of thousands of them take minutes on an object store.
    """

    def __init__(self, output: Output, segments: Sequence[Segment], committed: Collection[str]) -> None:
        self.output = output
        self.segments = {segment.number for segment in segments}
        units = [unit for segment in segments for unit in unit_ids(segment) if unit in committed]
        self._inputs = self._quarantined = 0
        self._stopped = Event()
        self._thread = ThreadPoolExecutor(1)
        self._before: Future[tuple[pa.Table, Totals]] = self._thread.submit(self._read, segments, units)

    def _read(self, segments: Sequence[Segment], units: Sequence[str]) -> tuple[pa.Table, Totals]:
        commits = []
        for commit in finish.read_commits(self.output, segments, units):
            if self._stopped.is_set():
                break
            commits.append(commit)
        manifest = finish.manifest_table(commits)
        return manifest, finish.totals(manifest)

    def count(self, receipt: Receipt) -> None:
        """Add how one unit ended."""
        self._inputs += receipt.inputs - receipt.skipped
        self._quarantined += receipt.quarantined

    def known(self) -> tuple[int, int] | None:
        """Rows that were looked at, and those of them that were set aside; None while earlier commits are still read.

        Raises ConflictError where one of them is not that of its unit.
        """
        if not self._before.done():
            return None
        _, total = self._before.result()
        return self._inputs + total.inputs - total.skipped, self._quarantined + total.quarantined

    def manifest(self) -> pa.Table:
        """The rows of the manifest for those units that were committed before the run; waits for them."""
        return self._before.result()[0]

    def stop(self) -> None:
        """Read no further commit where the run has failed."""
        self._stopped.set()
        self._thread.shutdown(wait=False)
