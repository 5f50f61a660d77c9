"""Rows of the pictures in a file that holds several: pages of a TIFF, frames of a GIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline import images
from pipeline.recipe import PAGE_OF
from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.schema import image_column

PAGE = "page"
COLUMNS = (PAGE_OF, PAGE)
"""Columns of such rows: the key of the file, and the number of the picture in it, from 1 on."""
ENDING = "ending"
"""Entry of what is made of a picture: the ending of the name of its encoding."""


def page_key(key: str, number: int) -> str:
    """Return the key of a picture of a file, by its number from 1 on."""
    return f"{key}#{number}"


def lossless(pixel_type: images.PixelType) -> images.Encoding:
    """Return the encoding of pictures that have no bytes of their own."""
    return images.Encoding(codec="png" if pixel_type in images.CODECS["png"].pixel_types else "tiff")


def spread(rows: pa.Table, column: str, made: Sequence[Mapping[str, Any]], of: Sequence[int]) -> pa.Table:
    """Return a row for each entry of `made`, with the columns of the row that it is of, by its place in `rows`.

    An entry has the bytes of its picture under the name of the `column`, and its number as PAGE; without them the row
    keeps its own picture and key.
    """
    cells, at = rows[column], rows.column_names.index(column)
    data, names, keys, sources = list[bytes](), list[str | None](), list[str](), rows["key"].to_pylist()
    for entry, i in zip(made, of, strict=True):
        if column in entry:
            data.append(entry[column])
            names.append(f"{page_key(sources[i].rpartition('/')[2], entry.get(PAGE, 1))}.{entry[ENDING]}")
        else:
            cell = cells[i].as_py()
            data.append(cell["bytes"])
            names.append(cell.get("path"))
        keys.append(page_key(sources[i], entry[PAGE]) if PAGE in entry else sources[i])
    features = features_of(rows.schema)
    whole = rows.drop_columns(column).take(pa.array(of, pa.int64()))  # the pictures of files are not repeated
    whole = whole.add_column(at, column, image_column(data, names))
    where = whole.column_names.index("key")
    whole = whole.append_column(PAGE_OF, whole["key"]).set_column(where, "key", pa.array(keys, pa.string()))
    whole = whole.append_column(PAGE, pa.array([entry.get(PAGE, 1) for entry in made], pa.int32()))
    return with_features(whole, features)
