"""Files and records of an output in the words of Croissant: FileObjects, FileSets, and RecordSets with their fields."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa

from pipeline import images, storage
from pipeline.engine.completion.metadata import METADATA
from pipeline.engine.records.layout import form_of_data
from pipeline.recipe import fingerprint
from pipeline.report.dataset.shown import Root
from pipeline.stores.forms.form import WritableForm
from pipeline.stores.tables.schema import image_columns

MOST_FILES = 500
"""Shards that are listed with size and checksum; of more, the manifest says it."""
_MOST_SCHEMAS = 16
"""Shards whose columns are compared: one for each recipe and translator."""
_CHUNK_BYTES = 1 << 20

_MEDIA = {"parquet": "application/x-parquet", "webdataset": "application/x-tar"}
"""Media types of shards, by the name of their form, as Croissant spells them."""
_PICTURES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "BMP": "image/bmp",
    "GIF": "image/gif", "AVIF": "image/avif", "JPEG XL": "image/jxl", "HEIF": "image/heif",
}  # fmt: skip
"""Media types of image files, by their format. `mlcroissant` opens a file by the first, whatever it is."""
_TYPES: Sequence[tuple[Callable[[pa.DataType], bool], str]] = (
    (pa.types.is_boolean, "sc:Boolean"),
    (pa.types.is_integer, "sc:Integer"),
    (pa.types.is_floating, "sc:Float"),
    (pa.types.is_string, "sc:Text"),
    (pa.types.is_large_string, "sc:Text"),
    (pa.types.is_string_view, "sc:Text"),
    (pa.types.is_date, "sc:Date"),
    (pa.types.is_timestamp, "sc:DateTime"),
)


class Described(NamedTuple):
    """Files and records of an output, as JSON-LD."""

    distribution: list[dict[str, Any]]
    record_sets: list[dict[str, Any]]
    remarks: list[str]
    """Sentences on what is left out."""


class _Shard(NamedTuple):
    """Object that stands for a unit."""

    name: str
    """Path below the place of the metadata."""
    url: str
    size: int
    sha256: str
    rows: int
    made_by: tuple[str, str]
    """Fingerprint of its recipe, and the folder of its part without its slot's."""


def described(roots: Sequence[Root], *, flat: bool = False) -> Described:
    """Return the files and records of these versions of an output.

    With `flat`, data of later versions is said to lie below data/ like that of the first.
    """
    found = Described([], [], [])
    by_form = dict[str, tuple[WritableForm, list[_Shard]]]()
    for root in roots:
        made_by = {f"{segment.number:06d}": fingerprint(segment.recipe) for segment in root.segments}
        prefix = "" if flat else root.prefix
        for row in root.rows():
            form = form_of_data(row["data"])
            part = re.sub(r"^data/(slot=[^/]*/?)?", "", row["data"].rpartition("/")[0])
            shard = _Shard(
                prefix + row["data"], root.output.at(row["data"]), row["data_size"], row["data_sha256"], row["ok"],
                (made_by[row["unit"].partition("-")[0]], part),
            )  # fmt: skip
            by_form.setdefault(form.name, (form, []))[1].append(shard)
    for form, shards in by_form.values():
        if form.names_are_keys:
            for root in roots:
                _add_files(found, root, form, "" if flat else root.prefix)
        elif form.name in _ADD:
            _ADD[form.name](found, shards, form, f"_{form.name}" if len(by_form) > 1 else "")
        else:
            found.remarks.append(f"Records of {form.title} are not described.")
    return found


def _add_shards(found: Described, shards: Sequence[_Shard], form: WritableForm, suffix: str) -> None:
    """Add Parquet shards: one record a row."""
    files, rows = f"shards{suffix}", f"rows{suffix}"
    _add_objects(found, shards, form)
    folders = sorted({shard.name.rpartition("/")[0] for shard in shards})
    includes = [f"{_pattern(folder)}/*{form.ending}" for folder in folders]
    found.distribution.append(_file_set(files, [_MEDIA[form.name]], includes))
    of_rows = {"fileSet": {"@id": files}}
    fields, left_out = _fields(rows, of_rows, _common(shards, form))
    if any("/slot=" in folder for folder in folders):
        fields.append(_field(rows, "slot", "sc:Text", of_rows, {"fileProperty": "fullpath"}, r".*slot=([^/]+)/.*"))
    _add_rows(found, rows, fields, left_out)


def _add_tars(found: Described, shards: Sequence[_Shard], form: WritableForm, suffix: str) -> None:
    """Add tars: their images are one set of records, and the `.json` with a row's other columns is another."""
    if len(shards) > MOST_FILES:
        folders = sorted({shard.name.rpartition("/")[0] for shard in shards})
        includes = [f"{_pattern(folder)}/*{form.ending}" for folder in folders]
        found.distribution.append(_file_set(f"tars{suffix}", [_MEDIA[form.name]], includes))
        found.remarks.append(f"Records in more than {MOST_FILES} tars are not described.")
        return
    _add_objects(found, shards, form)
    inside = [{"@id": shard.name} for shard in shards]
    for name, media, includes, fields in (
        ("images", _formats(), [f"*.{ending}" for ending in _endings()], [("image", "sc:ImageObject")]),
        ("columns", ["application/json"], ["*.json"], [("json", "sc:Text")]),
    ):
        files, rows = f"{name}_files{suffix}", f"{name}{suffix}"
        found.distribution.append(_file_set(files, media, includes) | {"containedIn": inside})
        of_rows = {"fileSet": {"@id": files}}
        sample = _field(rows, "sample", "sc:Text", of_rows, {"fileProperty": "fullpath"}, r"((?:.*/)?[^/.]+)\.[^/]*$")
        file = _field(rows, "file", "sc:Text", of_rows, {"fileProperty": "fullpath"})
        content = [_field(rows, each, kind, of_rows, {"fileProperty": "content"}) for each, kind in fields]
        _add_rows(found, rows, [sample, file, *content], [])


def _add_files(found: Described, root: Root, form: WritableForm, prefix: str) -> None:
    """Add a folder of images: one record a file, with its row of the metadata beside the files."""
    suffix = f"_{root.number:06d}" if prefix else ""
    files, rows, metadata = f"images{suffix}", f"rows{suffix}", f"{prefix}{METADATA}"
    includes = [f"{prefix}data/*.{ending}" for ending in _endings()]
    found.distribution.append(_file_set(files, _formats(), includes))
    of_files = {"fileSet": {"@id": files}}
    name = _field(
        rows, "file_name", "sc:Text", of_files, {"fileProperty": "fullpath"}, rf"{re.escape(prefix)}data/(.*)"
    )
    fields = [name, _field(rows, "image", "sc:ImageObject", of_files, {"fileProperty": "content"})]
    entry, left_out = storage.stat_file(root.output.at(METADATA)), list[str]()
    if entry is None:
        found.remarks.append("The columns of the files are in no one file, and are not described.")
    else:
        found.distribution.append(
            _file_object(metadata, entry.size, _sha256_of(root.output.at(METADATA)), _MEDIA["parquet"])
        )
        of_metadata = {"fileObject": {"@id": metadata}}
        name["references"] = of_metadata | {"extract": {"column": "file_name"}}
        schema = form.schema(root.output.at(METADATA))
        assert schema is not None
        more, left_out = _fields(rows, of_metadata, [f for f in schema if f.name not in ("file_name", "image")])
        fields += more
    _add_rows(found, rows, fields, left_out)


_ADD = {"parquet": _add_shards, "webdataset": _add_tars}


def _add_objects(found: Described, shards: Sequence[_Shard], form: WritableForm) -> None:
    if len(shards) > MOST_FILES:
        found.remarks.append(
            f"{len(shards)} shards are not listed one by one; _transdomain/manifest.parquet has their sizes and sha256."
        )
        return
    found.distribution.extend(_file_object(s.name, s.size, s.sha256, _MEDIA[form.name]) for s in shards)


def _add_rows(found: Described, name: str, fields: list[dict[str, Any]], left_out: Sequence[str]) -> None:
    said: dict[str, Any] = {"@type": "cr:RecordSet", "@id": name, "name": name}
    if left_out:
        said["description"] = f"Columns that Croissant has no type for are left out: {', '.join(left_out)}."
    if any(field["name"] == "key" for field in fields):
        said["key"] = {"@id": f"{name}/key"}
    found.record_sets.append(said | {"field": fields})


def _file_object(name: str, size: int, sha256: str, media: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "contentSize": f"{size} B",
        "encodingFormat": media, "sha256": sha256,
    }  # fmt: skip


def _file_set(name: str, media: Sequence[str], includes: Sequence[str]) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": media, "includes": includes}


def _common(shards: Sequence[_Shard], form: WritableForm) -> list[pa.Field]:
    """Return the columns that all shards have, from one of each recipe and translator that has rows."""
    examples = {shard.made_by: shard for shard in reversed(shards)} | {
        shard.made_by: shard for shard in reversed(shards) if shard.rows
    }
    schemas = [form.schema(shard.url) for shard in list(examples.values())[:_MOST_SCHEMAS]]
    known = [schema for schema in schemas if schema is not None]
    return [
        field
        for field in (known[0] if known else ())
        if all(field.name in other.names and other.field(field.name).type == field.type for other in known)
    ]


def _fields(
    record_set: str, source: dict[str, Any], columns: Iterable[pa.Field]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a field for each column, and the names of the columns for which there is none."""
    fields, left_out = list[dict[str, Any]](), list[str]()
    for column in columns:
        kind, extract = column.type, {"column": column.name}
        if image_columns(pa.schema([column])):
            field = _field(record_set, column.name, "sc:ImageObject", source, extract)
            field["source"]["transform"] = {"jsonPath": "bytes"}
        elif (simple := _simple(kind)) is not None:
            field = _field(record_set, column.name, simple, source, extract)
        elif _is_list(kind) and (simple := _simple(kind.value_type)) is not None:
            field = _field(record_set, column.name, simple, source, extract) | {"isArray": True, "arrayShape": "-1"}
        else:
            left_out.append(column.name)
            continue
        fields.append(field)
    return fields, left_out


def _field(
    record_set: str, name: str, kind: str, source: dict[str, Any], extract: dict[str, str], regex: str = ""
) -> dict[str, Any]:
    said = source | {"extract": extract} | ({"transform": {"regex": regex}} if regex else {})
    at = f"{record_set}/{quote(name, safe='')}"
    return {"@type": "cr:Field", "@id": at, "name": name, "dataType": kind, "source": said}


def _simple(kind: pa.DataType) -> str | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return next((name for is_one, name in _TYPES if is_one(kind)), None)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _formats() -> list[str]:
    """Return the media types of the files that `_endings` matches; which of them there are is not known."""
    return list(_PICTURES.values())


def _endings() -> list[str]:
    """Return patterns for the endings of all image files that there may be, in capitals or not: a camera's are .JPG."""
    known = [*(ending.removeprefix(".") for ending in images.EXTENSIONS), *map(str.lower, _PICTURES), "heic", "img"]
    return [
        "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in ending)
        for ending in dict.fromkeys(known)
    ]


def _pattern(folder: str) -> str:
    """Return a pattern that matches this folder alone."""
    return re.sub(r"([*?\[])", r"[\1]", folder)


def _chunks(url: str) -> Iterator[bytes]:
    with storage.open_read(url) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _sha256_of(url: str) -> str:
    found = hashlib.sha256()
    for chunk in _chunks(url):
        found.update(chunk)
    return found.hexdigest()
