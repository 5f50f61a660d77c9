"""Checks before any work: sources that would feed on their own output, and keys that clash."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pipeline.engine.completion import finish
from pipeline.engine.job import Job
from pipeline.engine.records.layout import unit_ids
from pipeline.engine.records.units import Unit, Units, part_of
from pipeline.engine.segments import Planned
from pipeline.errors import UserError
from pipeline.stores import Store, is_listed
from pipeline.stores.forms.naming import OF_CONTENT
from pipeline.stores.keys import duplicate_source_keys, duplicates, file_and_folder_keys, key_prefix, store_keys

log = logging.getLogger("transdomain")


def check_sources(job: Job, said: set[str]) -> None:
    """Raise UserError where there is nothing to do, or where readers would take the output for input.

    Logs warnings about empty sources and ignored files; `said` holds those that were logged already, since
    several stores may be made of one source.
    """
    stores = job.sources.values()
    empty = [store.url for store in stores if not store.first_rows(1)]
    if len(empty) == len(stores):
        raise UserError(f"{', '.join(empty)}: holds no rows; there is nothing to do")
    for url in empty:
        log.warning("%s: holds no rows", url)
    for store in stores:
        for line in (each.below(store.url) for each in store.passed_over):
            if line not in said:
                log.warning("%s", line)
            said.add(line)
    made = [
        job.output.data(Unit("000000-000000", (), part_of(job.label, part)), work.sink.form)
        for work in job.workloads
        for part in work.parts
    ]
    if any(work.sink.form.names_are_keys for work in job.workloads):
        made += [job.output.file(f"key.{extension}") for extension in _extensions(job) or {"png"}]
    for store in stores:
        if any(is_listed(url, store) for url in made):
            raise UserError(
                f"{job.output.url} is inside of {store.url}, where it would be taken for input; "
                "give an output beside it"
            )


def check_keys(job: Job, checked: set[int], plan: Planned, fresh: Sequence[Units]) -> None:
    """Raise UserError where keys clash in a source, as they would in the output.

    Keys clash where one occurs more than once, or where two cannot both be file names. Stores whose id is in `checked`
    were checked before.
    """
    if plan.gone:
        _check_keys_of_output(job, plan, fresh)
    extensions = _extensions(job)
    for store in job.sources.values():
        if id(store) in checked:
            continue
        checked.add(id(store))
        for key, first, second in duplicate_source_keys([store]):
            twice = f"{store.url}: the key {key!r} occurs twice in {first}, and a key has to name one image"
            if first == second:
                raise UserError(f"{twice}; rename the column key: rows are then named by their shard and number")
            raise UserError(
                f"{store.url}: the key {key!r} occurs in {first} and in {second}, and a key has to name one image; "
                "--keys by_shard names the rows SHARD#KEY, or give each folder an output of its own"
            )
        for extension in extensions:
            for file, within in file_and_folder_keys(lambda store=store: _key_batches(store), extension):  # type: ignore[misc]
                raise UserError(
                    f"{store.url}: of the keys {file!r} and {within!r} one would be a file where the other needs a "
                    "folder; rename one of them, or write --form parquet"
                )


def _extensions(job: Job) -> set[str]:
    """Return the endings of the files that the job makes of single rows."""
    found = {work.sink.extension for work in job.workloads if work.sink.form.names_are_keys}
    return found - {"", OF_CONTENT}


def _check_keys_of_output(job: Job, plan: Planned, fresh: Sequence[Units]) -> None:
    """Raise UserError where a key of the `fresh` units was already published, for an input that is gone."""
    output = job.output
    committed = output.committed()
    units = [unit for segment in plan.segments for unit in unit_ids(segment) if unit in committed]
    made = finish.with_data(output, finish.manifest_table(finish.read_commits(output, plan.segments, units)))

    def batches() -> Iterator[tuple[str, Sequence[str]]]:
        yield from ((output.url, keys) for keys in finish.keys_of(output, made))
        for units in fresh:
            name, translator = units.ranges.source, units.part.rpartition("=")[2]
            before = key_prefix(translator, name) if units.part else ""
            for url, keys in store_keys(job.sources[name].only(units.ranges)):
                yield url, [f"{before}{key}" for key in keys]

    for key, first, second in duplicates(batches):
        if output.url in (first, second):
            raise UserError(
                f"{max(first, second, key=lambda url: url != output.url)}: the key {key!r} is in {output.url} already, "
                f"of an input that is gone, such as {plan.gone[0]}; give new rows new keys, or another output"
            )


def _key_batches(store: Store) -> Iterator[Sequence[str]]:
    return (keys for _, keys in store_keys(store))
