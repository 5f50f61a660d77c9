"""Read a dataset again and prove it whole: every input accounted for, every checksum right, every key once."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from jobs.cli import DONE, FAILED, run_job
from pipeline.config.verify import VerifyConfig
from pipeline.terminal import tell
from pipeline.verify import clean, verify

MOST_FAULTS = 20


def run(config: VerifyConfig) -> int:
    """Print the verdict; 0 where the dataset is whole, else 1."""
    verdict = verify(config.input, source=config.source)
    for fault in verdict.faults[:MOST_FAULTS]:
        tell(f"fault: {fault}")
    if len(verdict.faults) > MOST_FAULTS:
        tell(f"… and {len(verdict.faults) - MOST_FAULTS} more")
    for entry in verdict.leftovers:
        tell(f"left behind by a kill, in nobody's way: {entry.name} ({entry.size} bytes)")
    if config.clean:
        tell(f"removed {clean(verdict, time.time())} of {len(verdict.leftovers)} leftovers")
    tell(
        f"{config.input}: {verdict.inputs} inputs = {verdict.ok} ok + {verdict.quarantined} set aside"
        f" + {verdict.skipped} skipped, in {verdict.units} units: "
        + (f"NOT WHOLE, {len(verdict.faults)} faults" if verdict.faults else "whole")
    )
    return FAILED if verdict.faults else DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(VerifyConfig, run, name="verify", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
