"""Score translated stores against their targets and a reference, next to baselines, and compare them."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.evaluate.config import EvaluateConfig
from pipeline.terminal import print_lines


def run(config: EvaluateConfig) -> int:
    """Evaluate and print the report."""
    from pipeline.evaluate.run import evaluate

    if said := evaluate(config):
        print_lines(said)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(EvaluateConfig, run, name="evaluate", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
