"""Draw (or take) a small set of pairs, pack it, train pix2pix on it, translate the held-out fifth, and report."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.demo.config import DemoConfig
from pipeline.terminal import print_lines


def run(config: DemoConfig) -> int:
    """Run the demonstration and print its report."""
    from pipeline.demo.job import demo

    print_lines(demo(config))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(DemoConfig, run, name="demo", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
