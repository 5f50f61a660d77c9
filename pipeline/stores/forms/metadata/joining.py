"""Columns that metadata files have for images, joined by the names of their files."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import UserError, one_line
from pipeline.stores.forms.groups.recent import Recent
from pipeline.stores.forms.metadata.finding import METADATA
from pipeline.stores.forms.metadata.tables import table_of
from pipeline.stores.tables.features import features_of, united, with_features
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import SourceChangedError, check_columns

log = logging.getLogger("transdomain")

_TEXT = pa.large_string()
_SLASH = pa.scalar("/", _TEXT)
NAME = "file_name"
"""Column with the names of the files that rows describe, relative to the folder of their metadata."""
_OWN = ("key", "image")
"""Columns that a folder of images has by itself."""
ANY_ENDING = ".*"
"""In place of the ending of a file, where metadata do not say it."""
WITHOUT_FILE = "rows of metadata without a file"


class Described(NamedTuple):
    """Rows that describe files."""

    names: pa.LargeStringArray
    """Name of each row's file, in order, relative to the store; with ANY_ENDING where the metadata leave it out."""
    table: pa.Table
    """Their columns, as the rows of a store have them."""
    sha256: Mapping[str, str]
    """Hash of each metadata file, by its name."""


class _Planned(NamedTuple):
    """Metadata file as it was when its store was opened."""

    name: str
    url: str
    sha256: str


def row_schema_of(schema: pa.Schema, files: storage.Entries) -> RowSchema:
    """Return how rows of `key`, `image` and columns of metadata come that these files have."""
    sha256 = _read(tuple(files)).sha256
    return RowSchema(schema, basis=json.dumps([_Planned(file.name, file.url, sha256[file.name]) for file in files]))


@functools.lru_cache(maxsize=16)
def _planned(row_schema: RowSchema) -> Sequence[_Planned]:
    return [_Planned(*each) for each in json.loads(row_schema.basis)]


def described_as_planned(row_schema: RowSchema) -> Described:
    """Return what the metadata files of a store say. Raises SourceChangedError where one says something else by now."""
    planned = _planned(row_schema)
    found = [(storage.stat_file(file.url), file) for file in planned]
    if gone := [file.url for entry, file in found if entry is None]:
        raise SourceChangedError(f"{gone[0]} is gone since it was planned")
    described = _read(tuple(entry._replace(name=file.name) for entry, file in found if entry is not None))
    if changed := [file.url for file in planned if described.sha256[file.name] != file.sha256]:
        raise SourceChangedError(f"{changed[0]} has changed since it was planned")
    return described


def columns_of(row_schema: RowSchema, names: Sequence[str], wanted: Sequence[str] | None) -> pa.Table:
    """Return the columns of the files of these names, all or those wanted; null where no row describes one.

    Raises SourceChangedError where a metadata file is not the one that it was.
    """
    fields = [f for f in row_schema.schema if f.name not in _OWN and (wanted is None or f.name in wanted)]
    if not fields:
        return pa.table({})
    described = described_as_planned(row_schema)
    at = positions(pa.array(names, _TEXT), described.names)
    found = described.table.select([field.name for field in fields]).take(at)
    return with_features(found.cast(pa.schema(fields)), features_of(row_schema.schema))


def _read(files: tuple[storage.Entry, ...]) -> Described:
    return _held.get(files, lambda: described_by(files))


_held = Recent[Described](64_000_000, lambda found: int(found.table.nbytes + found.names.nbytes))
"""Cache, for this process, of what metadata files say; always of one store."""


def metadata_of(
    url: str, files: storage.Entries, inputs: storage.Entries
) -> tuple[pa.Schema, storage.PassedOver | None]:
    """Return the columns that metadata files have for a folder of images, and their rows without a file in `inputs`.

    It warns of images that no row describes. Raises UserError where a file cannot be read, lacks file names, or
    describes a file twice.
    """
    described = _read(tuple(files))
    here, known = inputs.names, described.names
    counts = pc.value_counts(known)
    if len(twice := counts.filter(pc.greater(counts.field("counts"), 1))):
        name, times = (twice.field(each)[0].as_py() for each in ("values", "counts"))
        raise UserError(
            f"{url}: its metadata describe {name} {times} times, and each file is one row; leave one description of it"
        )
    if len(plain := here.filter(pc.is_null(positions(here, known)))):
        log.warning(
            "%s: %d of %d images, such as %s, are in no row of its metadata; their columns are null",
            url, len(plain), len(here), plain[0].as_py(),
        )  # fmt: skip
    there = pc.or_(pc.is_in(known, here), pc.is_in(known, _with_any_ending(here)))
    lost = known.filter(pc.invert(there))
    over = storage.PassedOver(WITHOUT_FILE, len(lost), lost[0].as_py()) if len(lost) else None
    if further := [name for name in described.table.column_names if name.endswith(f"_{NAME}")]:
        log.warning(
            "%s: columns %s name further files; they stay text, and these files are rows", url, ", ".join(further)
        )
    return described.table.schema, over


def positions(names: pa.Array, described: pa.Array) -> pa.Array:
    """Return for each name the row that describes it, among names in order; null where none does."""
    return pc.coalesce(_places(names, described), _places(_with_any_ending(names), described))


def _places(names: pa.Array, among: pa.Array) -> pa.Array:
    """Return the place of each name among others in order; null where it is none of them."""
    if not len(among):
        return pa.nulls(len(names), pa.uint64())
    at = pc.search_sorted(among, names)
    near = among.take(pc.min_element_wise(at, pa.scalar(len(among) - 1, at.type)))
    return pc.if_else(pc.equal(near, names), at, pa.scalar(None, at.type))


def _with_any_ending(names: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(names, r"\.[^./]*$", ANY_ENDING)


def described_by(files: Sequence[storage.Entry]) -> Described:
    """Read metadata files. Raises UserError where one cannot be read, or its columns do not go with the others'."""
    names, tables, sha256 = list[pa.ChunkedArray](), list[pa.Table](), dict[str, str]()
    for file in files:
        data = storage.read(file.url, size=file.size)
        sha256[file.name] = hashlib.sha256(data).hexdigest()
        try:
            table = table_of(file.name.rpartition("/")[2].lower(), data)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{file.url}: cannot be read ({one_line(error)}); mend it, or move it away") from None
        check_columns(table.schema, file.url, rows=0)
        found, table = _named(file, table)
        names.append(found)
        tables.append(table)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        where = ", ".join(file.name for file in files)
        raise UserError(f"{files[0].url}: the columns of {where} do not go together ({one_line(error)})") from None
    table = with_features(table, united({}, *(features_of(each.schema) for each in tables)))
    whole = pa.concat_arrays([chunk for each in names for chunk in each.chunks])
    order = pc.sort_indices(whole)
    return Described(whole.take(order), table.take(order), sha256)


def _named(file: storage.Entry, table: pa.Table) -> tuple[pa.ChunkedArray, pa.Table]:
    """Return the name of the file that each row describes, relative to the store, and all other columns."""
    folder, _, base = file.name.rpartition("/")
    column = NAME if base in METADATA else "key"
    if column not in table.column_names or not _is_text(table.schema.field(column).type):
        raise UserError(
            f"{file.url}: has no column {column} of text, which has to name the files of its rows, but "
            f"{', '.join(f'{each.name} ({each.type})' for each in table.schema)}; rename the column that does"
        )
    inside = folder if base in METADATA else file.name.removesuffix(".parquet")
    names = pc.replace_substring_regex(table[column].cast(_TEXT), r"^(\./)+", "")
    if names.null_count:
        raise UserError(f"{file.url}: {names.null_count} of its rows have no {column}; name their files")
    whole = pc.binary_join_element_wise(pa.scalar(inside, _TEXT), names, _SLASH) if inside else names
    if base not in METADATA:
        whole = pc.binary_join_element_wise(whole, pa.scalar(ANY_ENDING, _TEXT), pa.scalar("", _TEXT))
    rest = table.drop_columns([column])
    if "key" in rest.column_names and pc.all(pc.equal(rest["key"].cast(_TEXT), whole)).as_py():
        rest = rest.drop_columns(["key"])  # what the name says already
    features = features_of(table.schema)
    renamed = {name: f"metadata.{name}" if name in _OWN else name for name in rest.column_names}
    rest = with_features(rest.rename_columns(renamed), {renamed[n]: f for n, f in features.items() if n in renamed})
    return whole, rest


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
