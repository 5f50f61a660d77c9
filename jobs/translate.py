"""Translate a store of images with a trained model, or several, each image exactly once, into a verifiable dataset."""

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
    from pipeline.several.job import several_job
    from pipeline.several.naming import is_single, wanted_models
    from pipeline.translate.job import translate_job

    wanted = wanted_models(config)
    make = translate_job if is_single(wanted) else several_job
    bundles = list(dict.fromkeys(model.bundle for models in wanted.values() for model in models))
    with launch.Computing(config, [config.input, config.output, *bundles]) as compute:

        def jobs() -> list[Job]:
            with preflight(config.input):
                return [make(config, compute)]

        launch.run_engine(jobs, config, reads=bundles)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(TranslateConfig, translate, name="translate", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
