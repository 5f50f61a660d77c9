"""Translate a store of images with a trained model, each image exactly once, into a verifiable dataset."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.storage.retry import preflight
from pipeline.translate.config import TranslateConfig


def translate(config: TranslateConfig) -> int:
    """Run the job and print how the output stands."""
    from pipeline.engine import launch
    from pipeline.engine.job import Job
    from pipeline.translate.job import translate_job

    with launch.Computing(config, [config.input, config.output, config.bundle]) as compute:

        def jobs() -> list[Job]:
            with preflight(config.input):
                return [translate_job(config, compute)]

        launch.run_engine(jobs, config, reads=[config.bundle])
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(TranslateConfig, translate, name="translate", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
