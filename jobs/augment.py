"""Translate what arrived since the last slot, with several models, into one growing dataset; made for a schedule."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline import storage
from pipeline.augment.config import AugmentConfig
from pipeline.errors import UserError
from pipeline.storage.retry import preflight
from pipeline.terminal import print_line, print_lines
from pipeline.translation.options import of_version

STATUS_SLOTS = 10
TRANSLATORS = """Translators are named in a file, each with its bundle, direction and probability:

  translators: {night: {bundle: s3://models/night, probability: 0.5}}

Flags such as --translators.night.probability 0.2 then change what it says."""
"""Part of the help, since a translator's options exist only once a file has named it."""


def augment(config: AugmentConfig) -> int:
    """Run a slot and print how it stands; with --status, print how the last slots stand."""
    from pipeline.augment import slots
    from pipeline.augment.job import augment_job
    from pipeline.engine import launch
    from pipeline.engine.job import Job
    from pipeline.engine.records.layout import Output

    output = Output(storage.absolute(config.output))
    if config.status:
        return _show_status(output.url)
    if config.redo:
        return _redo(config, output.url)
    slot = slots.choose_slot(config.slot, config.schedule, datetime.datetime.now(datetime.UTC))
    bundles = [translator.bundle for translator in config.translators.values()]
    with launch.Computing(config, [output.url, *config.sources.values(), *bundles]) as compute:

        def jobs() -> list[Job]:
            with preflight(output.url):
                return [augment_job(config, slot, compute)]

        launch.run_engine(jobs, config, reads=bundles)
    if config.keep_slots is not None and not config.dry_run:
        for gone in slots.retire(output, config.keep_slots, slot):
            print_line(f"{output.url}, slot {gone}: data deleted")
    return DONE


def _redo(config: AugmentConfig, url: str) -> int:
    """Make a new version of the named slots, and let readers see it once all of it is whole."""
    from pipeline.augment.job import augment_job
    from pipeline.engine import launch
    from pipeline.engine.job import Job
    from pipeline.versions.making import begin, switch

    bundles = [translator.bundle for translator in config.translators.values()]
    with launch.Computing(config, [url, *config.sources.values(), *bundles]) as compute:

        def make(root: str, slot: str, recipe_only: bool) -> Job:
            return augment_job(of_version(config, root, recipe_only), slot, compute)

        with preflight(url):
            making = begin(url, "augment", config.redo, make, config.dry_run)
        for slot in making.labels:

            def jobs(slot: str = slot) -> list[Job]:
                with preflight(url):
                    return [making.job(slot)]

            launch.run_engine(jobs, config, reads=bundles)
        if not config.dry_run:
            print_line(switch(making))
    return DONE


def _show_status(url: str) -> int:
    from pipeline.augment import slots
    from pipeline.engine.records.layout import Output, check_job
    from pipeline.report.content import Report
    from pipeline.report.text import render_text
    from pipeline.stores import versions

    output = Output(url)
    with preflight(url):
        check_job(output, "augment")
        found = slots.standings(output, STATUS_SLOTS)
    if not found:
        raise UserError(f"{output.url}: no slot has been run there yet")
    unfinished = [standing.slot for standing in found if standing.done < standing.units]
    status = f"{', '.join(unfinished)} to be run again" if unfinished else "complete"
    table = slots.standings_table(found)
    print_lines(render_text(Report(title=output.url, status=status, tables=[table], quarantine_total=None)))
    whole = set(versions.marks(url))
    for version in versions.begun(url):
        if version.number not in whole:
            print_line(f"{url}: {version}: not finished, so nobody reads it; the command that began it goes on")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(AugmentConfig, augment, name="augment", description=f"{__doc__}\n\n{TRANSLATORS}", argv=argv)


if __name__ == "__main__":
    end(main())
