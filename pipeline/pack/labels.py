"""Files of labels: a row for each key, as Arrow columns, from CSV, TSV, Parquet or JSON lines.

What a file says is kept: text stays text, also where it looks like a date, and a number with leading zeros is text. In
CSV nothing has a type, so a column gets the narrowest one that each of its values has, whole numbers, numbers, true and
false, else text. An empty field of a column that is not text is null.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from pipeline import images, storage
from pipeline.errors import UserError, one_line
from pipeline.stores.keys import duplicate_keys
from pipeline.stores.tables.schema import check_columns

ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
KEYS = ("key", "file_name")
"""Names of the columns that hold the key where the user does not name one."""
_IMAGE_ENDING = rf"(?i)([^/])({'|'.join(map(re.escape, images.EXTENSIONS))})$"
_LINES = 65_536
_WHOLE, _NUMBER = r"^-?(0|[1-9][0-9]{0,17})$", r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_BOOLEAN = r"^([tT]rue|[fF]alse)$"
_MOST_NAMES = 5


@dataclass(frozen=True)
class Labels:
    """Rows of a file of labels, each with another key."""

    url: str
    version: str
    """Hash of the file's content, and of which of its columns is the key, 16 hexadecimal digits."""
    keys: pa.LargeStringArray
    """Key of each row; neither null nor twice."""
    columns: pa.Table
    """All columns but that of the keys, in the order of the file; a row each."""
    without_key: int
    """Number of rows whose key is null or empty; they are not among the others."""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def types(self) -> dict[str, str]:
        """Return the types of the columns, in words."""
        return {field.name: str(field.type) for field in self.columns.schema}


def read_labels(url: str, key: str = "", *, by_stem: bool = False) -> Labels:
    """Read a file of labels whose column `key` (by default one of KEYS) holds the keys; `by_stem`, without the endings
    of image files that they have.

    Raises UserError, saying what to do, where the file is missing or not readable, or has not that column, and where
    keys occur more than once, naming some.
    """
    try:
        data = storage.read(storage.absolute(url))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{url}: there is no such file of labels") from None
    ending = next((each for each in ENDINGS if url.lower().endswith(each)), None)
    if ending is None:
        raise UserError(f"{url}: not a file of labels: its name has to end in {', '.join(ENDINGS)}")
    try:
        table = _parsed(data, ending)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UserError(f"{url}: not readable as {ending[1:]}: {one_line(error, kind=False)}") from None
    check_columns(table.drop_columns([n for n in ("key",) if n in table.column_names]).schema, url, rows=len(table))
    key = key or next((name for name in KEYS if name in table.column_names), "")
    if key not in table.column_names:
        wanted = f"no column {key}" if key else f"no column {' or '.join(KEYS)}"
        raise UserError(f"{url}: {wanted}; it has {', '.join(table.column_names)}: name the right one by --labels_key")
    keys = _as_keys(table[key], url, key)
    there = pc.and_(keys.is_valid(), pc.not_equal(keys, ""))
    missing = len(keys) - pc.sum(pc.fill_null(there, False), min_count=0).as_py()
    if missing:
        keys, table = keys.filter(pc.fill_null(there, False)), table.filter(pc.fill_null(there, False))
    keys = pc.replace_substring_regex(keys, _IMAGE_ENDING, r"\1") if by_stem else keys
    _require_single(keys, url)
    version = hashlib.sha256(f"{key}:".encode() + hashlib.sha256(data).digest()).hexdigest()[:16]
    return Labels(url, version, keys, table.drop_columns(key), missing)


def _as_keys(column: pa.ChunkedArray, url: str, name: str) -> pa.LargeStringArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    if not any(is_one(kind) for is_one in texts):
        raise UserError(f"{url}: column {name} is {column.type}, and keys are text or whole numbers")
    column = column.cast(kind).cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    whole = column.cast(pa.large_string()).combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def _require_single(keys: pa.LargeStringArray, url: str) -> None:
    batches = range(0, len(keys), _LINES)
    if several := duplicate_keys(lambda: (keys[i : i + _LINES].to_pylist() for i in batches), _MOST_NAMES + 1):
        shown = ", ".join(several[:_MOST_NAMES])
        more = " and others" if len(several) > _MOST_NAMES else ""
        raise UserError(f"{url}: keys that occur more than once: {shown}{more}; keep one row for each")


def _parsed(data: bytes, ending: str) -> pa.Table:
    if ending == ".parquet":
        return pq.read_table(io.BytesIO(data), page_checksum_verification=True).replace_schema_metadata(None)
    if ending in (".csv", ".tsv"):
        return _of_csv(data, "\t" if ending == ".tsv" else ",")
    return _of_json_lines(data)


def _of_csv(data: bytes, delimiter: str) -> pa.Table:
    head = data[: data.find(b"\n") + 1 or len(data)].decode("utf-8-sig").rstrip("\r\n")
    if delimiter == "," and "," not in head and ";" in head:
        delimiter = ";"
    parse = pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = pcsv.open_csv(io.BytesIO(data), parse_options=parse).schema.names
    as_text = pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    columns = pcsv.read_csv(pa.BufferReader(data), parse_options=parse, convert_options=as_text).columns
    typed = []
    while columns:  # one after the other, so that few are held as text and as numbers at a time
        typed.append(_typed(columns.pop(0)))
    return pa.table(typed, names)


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text as the narrowest type that all of its values have."""
    is_filled = pc.not_equal(column, "")
    filled = column if pc.all(is_filled).as_py() else column.filter(is_filled)
    if not len(filled):
        return column
    for kind, pattern in ((pa.int64(), _WHOLE), (pa.float64(), _NUMBER), (pa.bool_(), _BOOLEAN)):
        first = pc.match_substring_regex(filled[:1], pattern)  # most columns of text are seen by it
        if pc.all(first).as_py() and pc.all(pc.match_substring_regex(filled, pattern)).as_py():
            whole = column if filled is column else pc.if_else(is_filled, column, pa.scalar(None, pa.string()))
            return whole.cast(kind)
    return column


def _of_json_lines(data: bytes) -> pa.Table:
    if data.lstrip().startswith(b"["):
        raise ValueError("a list, and it has to be JSON lines: an object a line")
    lines = (line for line in io.TextIOWrapper(io.BytesIO(data), "utf-8-sig") if line.strip())
    tables = list[pa.Table]()
    while some := list(itertools.islice(lines, _LINES)):
        tables.append(_of_rows([_object(line) for line in some]))
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _object(line: str) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError(f"a line that is no object: {line.strip()[:60]}")
    return found


def _of_rows(rows: Sequence[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def in_order(labels: Labels, rows: int) -> Iterator[pa.Table]:
    """Yield the rows with their `key`, sorted by it, so many at a time."""
    order = np.asarray(pc.sort_indices(labels.keys))
    whole = pa.table([labels.keys, *labels.columns.columns], ["key", *labels.columns.column_names])
    for start in range(0, len(order), rows):
        yield whole.take(pa.array(order[start : start + rows]))
