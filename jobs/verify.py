"""Read a dataset again and prove it whole: every input accounted for, every checksum right, every key unique."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.cli import DONE, FAILED, run_job
from jobs.ending import end
from pipeline.terminal import print_line
from pipeline.verify.config import VerifyConfig

if TYPE_CHECKING:
    from pipeline.verify.job import Verdict

MOST_LINES = 20


def run(config: VerifyConfig) -> int:
    """Print the verdict and return 0 where the dataset is whole, else 1."""
    from pipeline.verify.job import verify
    from pipeline.verify.repair import clean

    verdict = verify(config.input, source=config.source)
    _list("fault", [f"{fault}; {fault.mend}" for fault in verdict.faults])
    _list("passed over", verdict.passed_over)
    left = [f"{entry.name} ({entry.size} bytes)" for entry in verdict.leftovers]
    left += [f"{upload.name} (an upload that was never completed)" for upload in verdict.uploads]
    _list("left behind by a kill, in nobody's way", left)
    total, planned = verdict.total, len(verdict.records.units)
    units = f"{total.units} units" if total.units == planned else f"{total.units} of {planned} units"
    print_line(
        f"{config.input}: {total.inputs} inputs = {total.ok} ok + {total.quarantined} quarantined"
        f" + {total.skipped} skipped, in {units}: "
        + (f"NOT WHOLE, {len(verdict.faults)} faults" if verdict.faults else "whole")
    )
    if config.clean:
        print_line(f"removed {clean(verdict, time.time())} of {len(left)} leftovers")
    if config.repair:
        _repair(verdict)
    return FAILED if verdict.faults else DONE


def _repair(verdict: Verdict) -> None:
    from pipeline.verify.repair import repair

    done = repair(verdict)
    _list("removed", done.removed)
    _list("left as it is", [f"{fault}; {remedy}" for fault, remedy in done.left])
    if done.removed:
        print_line("now run the job's command again: it makes anew what was removed, and nothing else")


def _list(title: str, lines: Sequence[str]) -> None:
    for line in lines[:MOST_LINES]:
        print_line(f"{title}: {line}")
    if len(lines) > MOST_LINES:
        print_line(f"… and {len(lines) - MOST_LINES} more ({title})")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(VerifyConfig, run, name="verify", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
