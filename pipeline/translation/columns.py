"""Columns that translation adds, and new names for an input's columns of the same names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.engine.records.account import Batch
from pipeline.errors import UserError
from pipeline.geometry.columns import check_geometry
from pipeline.geometry.kinds import Geometry, likely
from pipeline.scores.names import SCORES
from pipeline.stores import Store
from pipeline.stores.keys import key_prefix
from pipeline.stores.tables.features import features_of, with_features
from pipeline.translation.options import TranslationOptions

log = logging.getLogger("transdomain")

OWN_COLUMNS = ("source_key", "source_shard", "source_width", "source_height", "exif_orientation", "model")
"""Names of the columns that translation adds; it replaces `image`, `width` and `height`."""
SOURCE_IMAGE = "source_image"
"""Name of the column that was translated, where it is kept."""
TRANSLATOR = "translator"
"""Name of the column with the translator, where there are several."""
_EARLIER = re.compile(rf"(input_)*({'|'.join((*OWN_COLUMNS, SOURCE_IMAGE, *SCORES))})")


def earlier_names(schema: pa.Schema, column: str, *, also: str = "") -> Mapping[str, str]:
    """Return new names for the columns that earlier translations added; none where `schema` is not a translation's.

    Columns of the translation that is the input get the prefix `input_`, those of the one before it `input_input_`, and
    so on, and a column named `also`, too. The `column` that is translated keeps its name.
    """
    if not set(OWN_COLUMNS) <= set(schema.names):
        return {}
    names = [name for name in schema.names if _EARLIER.fullmatch(name) and name != column]
    names += [name for name in schema.names if also and re.fullmatch(rf"(input_)*{also}", name) and name != column]
    # A column of another type that has the name of a score is somebody else's.
    own = [name for name in names if name not in SCORES or pa.types.is_float64(schema.field(name).type)]
    return {name: f"input_{name}" for name in own}


def renamed(rows: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Return `rows` under new names, with the metadata of their columns."""
    here = {old: new for old, new in names.items() if old in rows.column_names}
    features = {here.get(name, name): feature for name, feature in features_of(rows.schema).items()}
    return with_features(rows.rename_columns(here), features) if here else rows


def check_columns(source: Store, kept: Iterable[str], column: str, scores: Sequence[str] = ()) -> None:
    """Raise UserError where a column that is kept has a name that translation gives to another column.

    `column` is translated, and so is not kept under its name. The `scores` that are made are such columns, too.
    """
    names, taken = set(kept) - {column}, set(kept)
    clashes = [name for name in (*OWN_COLUMNS, SOURCE_IMAGE, "image") if name in names]
    clashes += [name for name in scores if name in taken]
    clashes += [name for name in ("width", "height") if name in names and not _is_size(source.schema.field(name).type)]
    if clashes:
        raise UserError(f"{source.url}: columns {', '.join(clashes)} would be overwritten; rename or drop them first")


def geometry_of(options: TranslationOptions, sources: Sequence[Store], column: str, kept: Iterable[str]) -> Geometry:
    """Return the columns of geometry; say which others look like some that no longer fit their picture.

    `column` is translated, and those in `kept` go with it. Raises UserError where a source lacks one, or has another
    type of it.
    """
    resized = options.size == "training"
    geometry = Geometry(options.geometry, options.geometry_frame, resized)
    declared = {name.partition(".")[0] for name in options.geometry}
    for source in sources:
        check_geometry(geometry, source.schema, column, source.url)
    if left := sorted(declared - set(kept)):
        raise UserError(f"--geometry names {', '.join(left)}, which is not among the --labels that are carried along")
    if others := likely(name for name in kept if name not in declared | {column}):
        log.warning(
            "columns %s seem to be of places in the pictures, and do not follow them where EXIF turns them%s: name "
            "them in --geometry",
            ", ".join(others),
            ", or --size training makes them squares" if resized else "",
        )
    return geometry


@dataclass(frozen=True)
class Label:
    """Stage that makes the rows of one of several translators those of the output: with unique keys, and columns for
    each row's origin."""

    encode: Callable[[Batch], Batch]
    translator: str

    def __call__(self, batch: Batch) -> Batch:
        made = self.encode(batch)
        source, rows = made.unit.ranges[0].source, made.rows
        before = key_prefix(self.translator, source)
        keys = [f"{before}{key}" for key in rows["key"].to_pylist()]
        rows = rows.set_column(rows.column_names.index("key"), "key", pa.array(keys, pa.string()))
        if source:
            rows = rows.append_column("source", pa.array([source] * len(rows), pa.string()))
        # Same type as pyarrow gives the folder's name; otherwise it could not read both as one column.
        names = pa.DictionaryArray.from_arrays(pa.array([0] * len(rows), pa.int32()), pa.array([self.translator]))
        return replace(made, rows=rows.append_column(TRANSLATOR, names))


def _is_size(of: pa.DataType) -> bool:
    """Return True where a column of this type can hold a store's image sizes, which translation measures again."""
    return pa.types.is_integer(of) or pa.types.is_null(of)
