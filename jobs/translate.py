"""Translate a store of images with a trained model, or several, each image exactly once, into a verifiable dataset."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline import storage
from pipeline.storage.retry import preflight
from pipeline.terminal import print_line
from pipeline.translate.config import TranslateConfig
from pipeline.translation.options import of_version


def translate(config: TranslateConfig) -> int:
    """Run the job and print how the output stands."""
    from pipeline.engine import launch
    from pipeline.engine.job import Job
    from pipeline.stores.versions import WHOLE, current_root
    from pipeline.translate.job import translate_job
    from pipeline.translate.naming import wanted_models
    from pipeline.versions.making import begin, switch

    wanted, output = wanted_models(config), storage.absolute(config.output)
    bundles = list(dict.fromkeys(model.bundle for models in wanted.values() for model in models))
    with launch.Computing(config, [config.input, config.output, *bundles]) as compute:

        def make(root: str, label: str, recipe_only: bool) -> Job:
            return translate_job(of_version(config, root, recipe_only), compute)

        with preflight(config.input):
            making = begin(output, "translate", [WHOLE], make, config.dry_run) if config.new_version else None

        def jobs() -> list[Job]:
            with preflight(config.input):
                return [making.job(WHOLE) if making else make(current_root(output), WHOLE, False)]

        launch.run_engine(jobs, config, reads=bundles)
        if making and not config.dry_run:
            print_line(switch(making))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(TranslateConfig, translate, name="translate", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
