"""Train pix2pix or CycleGAN from a store of images; after a kill at any step, the same command resumes the run."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.terminal import print_line
from pipeline.training.config.train import TrainConfig


def train(config: TrainConfig) -> int:
    """Run the job and print where its model is."""
    from pipeline.training.run import prepare, run

    if config.dry_run:
        print_line(f"would train {prepare(config)}")
        return DONE
    result = run(config)
    state = "trained" if result.fresh else "was trained already, nothing to do"
    print_line(f"{result.run}: {state}: {result.steps} steps; model bundle: {result.bundle}")
    if result.best_bundle:
        print_line(f"best by validation: {result.best_bundle}")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(TrainConfig, train, name="train", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
