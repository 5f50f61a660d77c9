"""Croissant 1.1 metadata of an output (docs.mlcommons.org/croissant): its files, records and provenance as JSON-LD.

Everything in it comes from what is in the output. `mlcroissant` reads the file where it lies, beside data/.
"""

from __future__ import annotations

import datetime
import json
import logging
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.units import Segment
from pipeline.errors import one_line, printable
from pipeline.recipe import models_of
from pipeline.report.dataset.records import MOST_FILES, Described, described
from pipeline.report.dataset.shown import Root, read_manifest, shown_roots

log = logging.getLogger("transdomain")

CROISSANT = "croissant.json"
"""File name of the metadata."""

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

_SHARD = re.compile(r"(?:^|/)data/(?:.*/)?\d{6}-\d{6}\.(?:parquet|tar)$")
_MOST_ACTIVITIES = 1000
"""Segments that are told apart in the provenance; the newest ones, where there are more."""

_PLAIN = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value",
)  # fmt: skip
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{name: f"cr:{name}" for name in _PLAIN},
}
"""The context of the specification's first appendix, with the names that `mlcroissant` looks for besides."""


def croissant(title: str, output: Output, segments: Sequence[Segment], manifest: pa.Table) -> bytes:
    """Return the metadata of a complete output as JSON, of the version of each slot that is read."""
    roots = shown_roots(output, segments, manifest)
    return encode(title, iri_of(output.url), roots, described(roots))


def encode(
    title: str,
    url: str,
    roots: Sequence[Root],
    found: Described,
    *,
    license_url: str = "",
    local_paths: bool = True,
) -> bytes:
    """Return metadata of these versions as JSON; `found` are their files and records, `url` is where they lie.

    Without `local_paths`, sources on a local disk are not named, since only this machine knows them.
    """
    segments = [segment for root in roots for segment in root.segments]
    started, ended = _times([root.units for root in roots])
    highest = max((root.number for root in roots), default=1)
    is_live = any(segment.label for segment in segments)
    rows = sum(pc.sum(root.units["ok"], min_count=0).as_py() for root in roots)
    said = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": printable(title),
        "description": " ".join([f"{printable(title)}: {rows} rows.", *found.remarks]),
        "conformsTo": CONFORMS_TO,
        "url": url,
        **({"license": license_url} if license_url else {}),
        # A new version replaces rows; a further segment adds some, which a live dataset does all the time.
        "version": f"{highest}.{0 if is_live else max(len(segments) - 1, 0)}.0",
        **({"dateCreated": started, "datePublished": ended, "dateModified": ended} if ended else {}),
        **({"isLiveDataset": True} if is_live else {}),
        "prov:wasDerivedFrom": [{"@id": iri_of(source)} for source in _sources(segments, local_paths)],
        "prov:wasGeneratedBy": list(_activities(roots, local_paths)),
        "distribution": found.distribution,
        "recordSet": found.record_sets,
    }
    return (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()


def publish_croissant(output: Output) -> None:
    """Write the metadata anew from what is there, where an output has any: its marks or its data have changed.

    Like all that is derived, it may prevent nothing: a failure is logged.
    """
    before = storage.read_if_there(output.at(CROISSANT))
    if before is None:  # the job's next run writes it, if anything does
        return
    try:
        title = json.loads(before)["name"]
        wanted = croissant(title, output, load_segments(output), read_manifest(output))
    except Exception as error:  # logged; the output is complete without it
        log.warning("%s was not written anew: %s", output.at(CROISSANT), one_line(error))
        log.debug("", exc_info=error)
        return
    if wanted != before:
        storage.replace(output.at(CROISSANT), wanted)


def check_croissant(output: Output, segments: Sequence[Segment], manifest: pa.Table) -> str:
    """Return what is wrong with the metadata of an output; empty where nothing is, or where there are none.

    Outputs of earlier versions have none. The shards are compared with those that are read.
    """
    data = storage.read_if_there(output.at(CROISSANT))
    if data is None:
        return ""
    try:
        files = [each for each in json.loads(data)["distribution"] if each["@type"] == "cr:FileObject"]
        named = {each["@id"]: each["sha256"] for each in files if _SHARD.search(each["@id"])}
    except (ValueError, KeyError, TypeError):
        return "is harmed"
    roots = shown_roots(output, segments, manifest)
    shards = {root.prefix + row["data"]: row["data_sha256"] for root in roots for row in root.rows()}
    expected = {name: sha256 for name, sha256 in shards.items() if _SHARD.search(name)}
    listed = expected if len(expected) <= MOST_FILES or named else {}
    return "" if named == listed else "does not name the data that is read"


def iri_of(url: str) -> str:
    """Return a URL that names the same in any program: a path becomes a file:// URL."""
    return pathlib.PurePosixPath(url).as_uri() if url.startswith("/") else printable(url)


def _sources(segments: Sequence[Segment], local_paths: bool) -> list[str]:
    urls = dict.fromkeys(source.url for segment in segments for source in segment.sources.values())
    return [url for url in urls if local_paths or not storage.is_local(url)]


def _activities(roots: Sequence[Root], local_paths: bool) -> Iterator[dict[str, Any]]:
    """Yield what made the rows: a run of a job for each segment, with its inputs and models."""
    made = [(root, segment) for root in roots for segment in root.segments]
    for root, segment in made[-_MOST_ACTIVITIES:]:
        of_it = root.units.filter(pc.starts_with(root.units["unit"], f"{segment.number:06d}-"))
        started, ended = _times([of_it])
        used: list[dict[str, Any]] = [{"@id": iri_of(source)} for source in _sources([segment], local_paths)]
        for name, model in models_of(segment.recipe).items():
            label = f"model {name}".strip()
            used.append({"@type": "prov:Entity", "prov:label": label, "sha256": str(model["model"])})
        yield {
            "@type": "prov:Activity",
            "prov:label": f"transdomain jobs.{segment.job}{f', slot {segment.label}' * bool(segment.label)}",
            **({"prov:startedAtTime": started, "prov:endedAtTime": ended} if ended else {}),
            "prov:used": used,
        }


def _times(units: Sequence[pa.Table]) -> tuple[str, str]:
    """Return when the first of these units was begun and the last one ended, in UTC; empty without units."""
    begun = [each["started"].to_numpy().min() for each in units if len(each)]
    ended = [each["ended"].to_numpy().max() for each in units if len(each)]
    return (_utc(min(begun)), _utc(max(ended))) if begun else ("", "")


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).isoformat().replace("+00:00", "Z")
