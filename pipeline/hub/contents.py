"""Files of a repository: those of a model bundle, or the data of an output that its readers see now, with its cards."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gan_models.card import model_card
from gan_models.description import sha256_of
from pipeline import storage
from pipeline.engine.completion.metadata import METADATA
from pipeline.engine.records.card import head_with, parts
from pipeline.engine.records.layout import CARD, Output, form_of_data, listed_files, load_segments
from pipeline.errors import DamagedError, UserError, printable
from pipeline.exchange.export_config import ExportConfig
from pipeline.hub.repository import File
from pipeline.models.bundles import describe
from pipeline.models.programs import is_program
from pipeline.report.dataset.card import features_of_data, head_of
from pipeline.report.dataset.croissant import CROISSANT, encode
from pipeline.report.dataset.records import described
from pipeline.report.dataset.results import metrics_block, read_results
from pipeline.report.dataset.shown import Root, read_manifest, shown_roots
from pipeline.stores import versions
from pipeline.stores.mark import decode_mark

MANIFEST = "_transdomain/manifest.parquet"
"""Table of the data files of a repository: path, size, sha256, rows. It also says that a push of ours made them."""
_MOST_FILES = 100_000
"""Limit of the files of a repository that the hub asks for."""
_MANIFEST = pa.schema([("file", pa.string()), ("size", pa.int64()), ("sha256", pa.string()), ("rows", pa.int64())])


class Contents(NamedTuple):
    """Files to push, in the order in which that is done."""

    title: str
    files: Sequence[File]
    last: Sequence[File]
    """Files that say what the others are: they come in one commit, at the end."""
    is_stale: Callable[[str, frozenset[str]], bool]
    """Function that says of a path, given all that there are, whether an earlier push left a file there that is none of
    these. Raises UserError where somebody else did."""


# --- bundles ------------------------------------------------------------------------------------------------------


def of_bundle(config: ExportConfig) -> Contents:
    """Return the files of a bundle. Raises UserError where there is none, or one without all its weights."""
    url = storage.absolute(config.bundle)
    if is_program(url):
        raise UserError(f"{config.bundle}: is a program; push the bundle that it was exported from")
    describe(url)
    said: dict[str, Any] = json.loads(storage.read(storage.join(url, "config.json")))
    stems = {"generators": "", "ema": ".ema", "discriminators": ".discriminator"}
    named = {
        f"{name}{ending}.safetensors": entry["weights_sha256"]
        for group, ending in stems.items()
        for name, entry in said.get(group, {}).items()
    }
    held = {entry.name: entry for entry in storage.list_files(url)}
    if missing := [name for name in named if name not in held]:
        raise UserError(f"{config.bundle}: is not a whole bundle: it has no {missing[0]}")
    read = functools.partial(storage.join, url)
    files = [
        File(name, held[name].size, sha256, functools.partial(storage.read, read(name)))
        for name, sha256 in named.items()
    ]
    sample = [_of_bytes("sample.png", storage.read(read("sample.png")))] if "sample.png" in held else []
    results = [*said.get("results", []), *(read_results(config.scores) if config.scores else [])]
    card = model_card(said | {"results": results}, with_sample=bool(sample), license_id=config.license)
    last = [
        *sample,
        _of_bytes(CARD, card.encode()),
        _of_bytes("config.json", storage.read(read("config.json"))),
    ]
    known = {f"{way}{ending}.safetensors" for way in ("a_to_b", "b_to_a") for ending in stems.values()}

    def is_stale(path: str, there: frozenset[str]) -> bool:
        return path in known and path not in named and "config.json" in there

    return Contents(f"{said['objective']} bundle", files, last, is_stale)


# --- outputs ------------------------------------------------------------------------------------------------------


def of_output(config: ExportConfig, url_there: str) -> Contents:
    """Return the current data of an output as the files of a repository at `url_there`.

    Raises UserError where the output is not finished, or has more files than a repository should.
    """
    output = Output(storage.absolute(config.input))
    segments = load_segments(output)
    _require_complete(output, len(segments))
    roots = shown_roots(output, segments, read_manifest(output))
    files, rows = list[File](), list[tuple[str, int, str, int]]()
    for root in roots:
        for file, count in _data_of(root):
            files.append(file)
            rows.append((file.path, file.size, file.sha256, count))
    if len(files) > _MOST_FILES:
        raise UserError(
            f"{config.input}: has {len(files):,} files, and a repository should not have more than {_MOST_FILES:,}; "
            "make the output anew with --form parquet"
        )
    files += [_metadata_of(root) for root in roots if _has_metadata(root)]
    title = parts(storage.read(output.at(CARD)))[1].partition("\n")[0].removeprefix("# ") or "Dataset"
    manifest = io.BytesIO()
    table = pa.Table.from_pylist([dict(zip(_MANIFEST.names, row, strict=True)) for row in rows], _MANIFEST)
    pq.write_table(table, manifest, compression="zstd", write_page_checksum=True)
    results = read_results(config.scores) if config.scores else []
    card = _card(title, roots, sum(row[3] for row in rows), len(rows), results, config)
    licence = f"https://spdx.org/licenses/{config.license}" if config.license else ""
    croissant = encode(title, url_there, roots, described(roots, flat=True), license_url=licence, local_paths=False)
    last = [
        _of_bytes(MANIFEST, manifest.getvalue()),
        _of_bytes(CROISSANT, croissant),
        _of_bytes(CARD, card.encode()),
    ]
    wanted = {file.path for file in files}

    def is_stale(path: str, there: frozenset[str]) -> bool:
        if not path.startswith("data/") or path in wanted:
            return False
        if MANIFEST not in there:
            raise UserError(
                f"{config.to}: has files in data/ that no push of this project made, such as {path}, and readers would "
                "take them for its data; delete them there, or give another repository"
            )
        return True

    return Contents(title, files, last, is_stale)


def _require_complete(output: Output, segments: int) -> None:
    """Raise UserError where an output, or a version of it that is read, is not complete."""
    mark = storage.read_if_there(output.success)
    said = decode_mark(mark) if mark is not None else None
    if not segments:
        raise UserError(f"{output.url}: is not the output of a job; give what pack, translate or augment wrote")
    if said is None or said["segments"] != segments:
        raise UserError(f"{output.url}: is not finished, and only a whole output is pushed; run its command again")
    for number in sorted(set(versions.current(versions.marked(output.url)).values())):
        place = Output(versions.root_of(output.url, number))
        if storage.read_if_there(place.success) is None:
            raise UserError(f"{place.url}: is not finished, and it is what is read; run its command again")


def _data_of(root: Root) -> Iterator[tuple[File, int]]:
    """Yield the data files of a version, each with its number of rows."""
    for row in root.rows():
        name, url = row["data"], root.output.at(row["data"])
        if not form_of_data(name).names_are_keys:
            yield File(name, row["data_size"], row["data_sha256"], functools.partial(storage.read, url)), row["ok"]
            continue
        sizes = _sizes(root.output)
        for file in listed_files(root.output, name):
            at = f"data/{file.name}"
            if at not in sizes:
                raise DamagedError(f"{root.output.at(at)} is missing; `jobs.verify` says what is wrong")
            yield File(at, sizes[at], file.sha256, functools.partial(storage.read, root.output.at(at))), 1


@functools.lru_cache(maxsize=2)
def _sizes(output: Output) -> dict[str, int]:
    """Return the sizes of the files below data/, by name."""
    return {f"data/{entry.name}": entry.size for entry in storage.list_files(output.at("data"))}


def _has_metadata(root: Root) -> bool:
    return storage.stat_file(root.output.at(METADATA)) is not None


def _metadata_of(root: Root) -> File:
    return _of_bytes(METADATA, storage.read(root.output.at(METADATA)))


def _card(
    title: str, roots: Sequence[Root], rows: int, files: int, results: Sequence[Any], config: ExportConfig
) -> str:
    """Return README.md of a repository with the data of an output."""
    sources = list(dict.fromkeys(s.url for root in roots for each in root.segments for s in each.sources.values()))
    told = [f"`{printable(url)}`" for url in sources if not storage.is_local(url)]
    if local := len(sources) - len(told):
        told.append(f"{local} {'place' if local == 1 else 'places'} on a local disk")
    labels = {segment.label for root in roots for segment in root.segments if segment.label}
    lines = [
        f"# {title}", "", f"Made from {', '.join(told)}.",
        f"{rows} rows in {files} files in `data/`{f', {len(labels)} slots' * bool(labels)}. `{CROISSANT}` describes "
        f"them, and `{MANIFEST}` has their checksums. What was quarantined, and the records of the job, are not here.",
        metrics_block(results),
    ]  # fmt: skip
    newest = next((root for root in reversed(roots) if len(root.units)), None)
    features = features_of_data(newest.output, newest.units) if newest else ""
    return head_with(head_of(title, sources, rows, features, license_id=config.license)) + "\n".join(lines)


def _of_bytes(path: str, data: bytes) -> File:
    return File(path, len(data), sha256_of(data), lambda: data)
