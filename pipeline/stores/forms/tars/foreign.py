"""Columns of anybody's tars: images by their endings, and the fields of each sample's `.json`.

A tar does not say the types of its columns. They are inferred from the first samples of a store's first tar, and hold
for all of it. A field that does not fit its column, or has none, is kept as JSON text in the column `json`.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import images
from pipeline.stores.forms.tars.headers import TarError
from pipeline.stores.forms.tars.index import Index
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import IMAGE_TYPE, image_column

log = logging.getLogger("transdomain")

SAMPLES = 256
"""Samples from which types are inferred."""
REST = "json"
"""Column with what fits no other."""
_NOT_DECODED = (".gif", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".ppm", ".pgm", ".pbm", ".tga", ".ico", ".exr")
"""Endings of images in formats that may not be decoded, which then says so of each."""
_MOST_FIELDS = 64
"""Fields of an object beyond which it is kept as text: its names are rather values."""
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


class Column(NamedTuple):
    """Column that the files with an ending become."""

    name: str
    kind: str
    """image, text, integer, fields (those of a .json) or bytes."""


@dataclass(frozen=True)
class Layout:
    """Columns of a store of tars, as they were inferred."""

    schema: pa.Schema
    """All columns, `key` first."""
    endings: tuple[str, ...]
    """Endings of the files in the first tar, in small letters."""
    apart: frozenset[str] = frozenset()
    """Image columns that are instead one column for each ending, since samples have several files of them."""
    as_text: frozenset[str] = frozenset()
    """Columns of fields that are kept as JSON text, since their values have no type in common."""

    def row_schema(self) -> RowSchema:
        """Return it as the ranges of its store carry it."""
        basis = {"endings": self.endings, "apart": sorted(self.apart), "as_text": sorted(self.as_text)}
        return RowSchema(self.schema, basis=json.dumps(basis))

    @functools.cached_property
    def columns(self) -> Mapping[str, Column]:
        """Column of each ending."""
        return columns_of(self.endings, self.apart)

    @functools.cached_property
    def own(self) -> frozenset[str]:
        """Columns that are no fields of a `.json`."""
        return frozenset({column.name for column in self.columns.values()} | {"key", REST})

    @functools.cached_property
    def types(self) -> Mapping[str, pa.DataType]:
        """Type of each column."""
        return {field.name: field.type for field in self.schema}


@functools.lru_cache(maxsize=16)
def layout_of(row_schema: RowSchema) -> Layout:
    """Invert `Layout.row_schema`."""
    said = json.loads(row_schema.basis)
    return Layout(row_schema.schema, tuple(said["endings"]), frozenset(said["apart"]), frozenset(said["as_text"]))


def columns_of(endings: Iterable[str], apart: Collection[str] = ()) -> dict[str, Column]:
    """Return the column of each ending; endings of images with the same name before them share one, unless apart."""
    found, taken = dict[str, Column](), {"key", REST}
    for ending in endings:
        column = _column(ending)
        shared = column.kind == "image" and column in found.values()
        if column.name in apart or (column.name in taken and not shared):
            column = column._replace(name=ending)
        if column.kind != "fields":
            taken.add(column.name)
        found[ending] = column
    return found


def _column(ending: str) -> Column:
    name, _, last = ending.rpartition(".")
    if f".{last}" in (*images.EXTENSIONS, *_NOT_DECODED):
        return Column(f"image_{name}" if name in ("a", "b") else name or "image", "image")
    plain = {"json": Column(REST, "fields"), "txt": Column("text", "text"), "cls": Column("cls", "integer")}
    return plain.get(ending) or Column(ending, "text" if last in ("txt", "json") else "bytes")


def apart_in(index: Index) -> frozenset[str]:
    """Return the image columns of which a sample of a tar has several files."""
    groups = dict[str, list[str]]()
    for ending in _folded(index):
        column = _column(ending)
        if column.kind == "image":
            groups.setdefault(column.name, []).append(ending)
    return frozenset(name for name, group in groups.items() if index.several(tuple(group)) is not None)


def _folded(index: Index) -> list[str]:
    return list(dict.fromkeys(ending.lower() for ending in index.endings))


def misfit(index: Index, layout: Layout) -> str:
    """Return why the files of a tar are not those of a store with this layout; empty where they are."""
    known = layout.columns
    for ending in _folded(index):
        column = _column(ending)
        if ending not in known and (column.kind != "image" or column.name not in layout.schema.names):
            return f"its samples have files that end in .{ending}, and those of the first tar have none"
    more = apart_in(index) - layout.apart
    return (
        f"its samples have several files for {', '.join(sorted(more))}, and those of the first tar one" if more else ""
    )


def infer(index: Index, samples: Sequence[Mapping[str, bytes]]) -> Layout:
    """Return the layout of a store, from its first tar and the files of the first samples of it, by ending."""
    endings, apart = tuple(_folded(index)), apart_in(index)
    columns = columns_of(endings, apart)
    fields = {"key": pa.string()}
    for column in columns.values():
        kinds = {"image": IMAGE_TYPE, "text": pa.string(), "integer": pa.int64(), "bytes": pa.binary()}
        fields[column.name] = kinds.get(column.kind, pa.string())
    if any(column.kind == "integer" and not _are_whole(samples, of) for of, column in columns.items()):
        fields["cls"] = pa.string()
    own, as_text = set(fields) | {REST}, set[str]()
    for name, values in _values([_object(files["json"]) for files in samples if "json" in files]).items():
        column_name = f"{REST}.{name}" if name in own else name
        kind = _common_type(values)
        if kind is None:
            as_text.add(column_name)
        fields[column_name] = kind or pa.string()
    return Layout(pa.schema(list(fields.items())), endings, apart, frozenset(as_text))


def _are_whole(samples: Sequence[Mapping[str, bytes]], ending: str) -> bool:
    return all(_WHOLE.fullmatch(files[ending].decode("latin-1")) for files in samples if ending in files)


def _object(data: bytes) -> dict[str, Any] | None:
    """Return the object that a `.json` holds; None where it holds none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _values(objects: Iterable[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    """Return the values of each field, without nulls; a field whose name is no text is left out."""
    found = dict[str, list[Any]]()
    for each in objects:
        for name, value in (each or {}).items():
            if _is_text(name):
                found.setdefault(name, []).extend([value] if value is not None else [])
    return found


def _is_text(text: str) -> bool:
    """Return True where Arrow can hold a text: one without lone surrogates, which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _common_type(values: Sequence[Any]) -> pa.DataType | None:
    """Return the type that all values have, text where there are none; None where they have none in common."""
    if not values:
        return pa.string()
    try:
        kind = pa.array(values).type
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return None
    return kind if _is_usable(kind) and all(fits(value, kind) for value in values) else None


def _is_usable(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _is_usable(kind.value_type)
    if pa.types.is_struct(kind):
        return 0 < kind.num_fields <= _MOST_FIELDS and all(_is_usable(field.type) for field in kind)
    return not pa.types.is_null(kind)


def fits(value: Any, kind: pa.DataType) -> bool:
    """Return True where a value of JSON is held by this type without loss."""
    if value is None:
        return True
    if pa.types.is_list(kind):
        return isinstance(value, list) and all(fits(each, kind.value_type) for each in value)
    if pa.types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return isinstance(value, dict) and all(
            name in fields and fits(each, fields[name]) for name, each in value.items()
        )
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    if pa.types.is_string(kind):
        return isinstance(value, str) and _is_text(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if pa.types.is_integer(kind):
        return is_whole and -(1 << 63) <= value < 1 << 63
    return isinstance(value, float) or (is_whole and abs(value) <= 1 << 53)


def table_of(
    layout: Layout, columns: Sequence[str], keys: Sequence[str], samples: Sequence[Mapping[str, bytes]], url: str
) -> pa.Table:
    """Return rows with these columns of a layout, from the files of samples by ending; `url` names the tar.

    Raises TarError where a file has no column.
    """
    of_endings = dict(layout.columns)
    wanted = [name for name in layout.schema.names if name in columns]
    values: dict[str, list[Any]] = {name: [None] * len(keys) for name in wanted}
    paths: dict[str, list[str | None]] = {name: [None] * len(keys) for name in wanted}
    kept = list[str]()
    for i, (key, files) in enumerate(zip(keys, samples, strict=True)):
        rest: dict[str, Any] | str = {}
        for ending, data in files.items():
            name, kind = of_endings.get(ending.lower()) or _column(ending.lower())
            if kind == "fields":
                rest = _spread(layout, data, i, values)
            elif name not in layout.types:
                raise TarError(f"has {key}.{ending}, and the store has no column for it")
            elif name in values:
                values[name][i] = _value(key, ending, data, layout.types[name], kind)
                paths[name][i] = f"{key.rpartition('/')[2]}.{ending}"
        if rest and REST in values:
            values[REST][i] = rest if isinstance(rest, str) else _dumped(rest)
            kept.append(key)
    if kept:
        log.warning(
            "%s: the .json of %d samples, such as %s, have fields that fit no column; they are in column %s",
            url, len(kept), kept[0], REST,
        )  # fmt: skip
    if "key" in values:
        values["key"] = list(keys)
    return pa.table(
        [
            image_column(values[field.name], paths[field.name])
            if field.type == IMAGE_TYPE and _is_image(of_endings, field.name)
            else pa.array(values[field.name], field.type)
            for field in layout.schema
            if field.name in values
        ],
        schema=pa.schema([layout.schema.field(name) for name in wanted]),
    )


def _is_image(columns: Mapping[str, Column], name: str) -> bool:
    return any(column == Column(name, "image") for column in columns.values())


def _value(key: str, ending: str, data: bytes, kind: pa.DataType, of: str) -> Any:
    """Return what a file that is no `.json` holds."""
    if of == "text":
        return data.decode("utf-8", "backslashreplace")
    if of == "integer":
        text = data.decode("utf-8", "backslashreplace").strip()
        if pa.types.is_integer(kind) and not _WHOLE.fullmatch(text):
            raise TarError(f"has {text[:40]!r} in {key}.{ending}, and the first samples have whole numbers there")
        return int(text) if pa.types.is_integer(kind) else text
    return data


def _spread(layout: Layout, data: bytes, at: int, values: Mapping[str, list[Any]]) -> dict[str, Any] | str:
    """Put the fields of a `.json` into row `at` of their columns; return all others, or the text that is no object."""
    found = _object(data)
    if found is None:
        return data.decode("utf-8", "backslashreplace")
    rest = dict[str, Any]()
    for name, value in found.items():
        column = f"{REST}.{name}" if name in layout.own else name
        is_text = column in layout.as_text
        if column not in layout.types or not (is_text or fits(value, layout.types[column])):
            rest[name] = value
        elif column in values and value is not None:
            values[column][at] = _dumped(value) if is_text else value
    return rest


def _dumped(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if _is_text(text) else json.dumps(value)
