"""What is looked at before any work: sources that would feed on their own output, and keys that clash."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pipeline.engine.job import Job
from pipeline.engine.plan import Unit, part_of
from pipeline.errors import UserError
from pipeline.stores import Store, is_listed
from pipeline.stores.keys import duplicate_source_keys, file_and_folder_keys, store_keys

log = logging.getLogger("transdomain")


def check_sources(job: Job, said: set[int]) -> None:
    """Raises UserError where there is nothing to do, or what is done would be taken for input."""
    stores = job.sources.values()
    empty = [store.url for store in stores if not store.rows]
    if len(empty) == len(stores):
        raise UserError(f"{', '.join(empty)}: holds no rows; there is nothing to do")
    for url in empty:
        log.warning("%s: holds no rows", url)
    for store in stores:
        for each in store.passed_over if id(store) not in said else ():
            log.warning("%s", each.below(store.url))
        said.add(id(store))
    made = [job.output.shard(Unit("000000-000000", (), part_of(job.label, work.part))) for work in job.works]
    made += [job.output.file(f"key.{work.sink.extension}") for work in job.works if work.sink.form == "folder"]
    for store in stores:
        if any(is_listed(url, store) for url in made):
            raise UserError(
                f"{job.output.url} is inside of {store.url}, where it would be taken for input; "
                "give an output beside it"
            )


def check_keys(job: Job, checked: set[int]) -> None:
    """Raises UserError where keys clash in a source, as they would in the output: one occurs more than once, or two
    cannot both be names of files. Stores in `checked`, by their id, were looked at before."""
    extensions = {work.sink.extension for work in job.works if work.sink.form == "folder"}
    for store in job.sources.values():
        if id(store) in checked:
            continue
        checked.add(id(store))
        for key, first, second in duplicate_source_keys([store]):
            where = f"in {first} and in {second}" if first != second else f"twice in {first}"
            raise UserError(
                f"{store.url}: the key {key!r} occurs {where}, and a key has to name one image; give each folder an "
                "output of its own, or rename the column key: rows are then named by their shard and number"
            )
        for extension in extensions:
            for file, within in file_and_folder_keys(lambda store=store: _key_batches(store), extension):  # type: ignore[misc]
                raise UserError(
                    f"{store.url}: of the keys {file!r} and {within!r} one would be a file where the other needs a "
                    "folder; rename one of them, or write --form parquet"
                )


def _key_batches(store: Store) -> Iterator[Sequence[str]]:
    return (keys for _, keys in store_keys(store))
