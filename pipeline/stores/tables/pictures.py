"""Columns that hold pictures in another form than `struct<bytes, path>`, given on as that.

Encoded images also stand in plain columns of bytes. Ray Data writes images as tensors, which are pixels: they become
PNG, which loses nothing. Whether its types are registered depends on who has imported Ray: both forms are known here.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.stores.tables import kinds
from pipeline.stores.tables.schema import IMAGE_TYPE, image_array

log = logging.getLogger("transdomain")

Form = Literal["struct", "bytes", "pixels"]
"""Form of a picture column: a struct with encoded images in `bytes`, encoded images alone, or tensors of pixels."""

_NAME, _ABOUT = b"ARROW:extension:name", b"ARROW:extension:metadata"
_FIXED = ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
_VARIABLE = "ray.data.arrow_variable_shaped_tensor"
_PNG = images.Encoding(codec="png")
_PLACE = re.compile(r"(?i)([a-z][a-z0-9+.-]*://\S+)|(.*\.(jpe?g|png|webp|tiff?|bmp|gif|avif|heic|jxl))")


def form_of(field: pa.Field) -> Form | None:
    """Return the form in which a column could hold pictures, by its type alone; None where it cannot."""
    if tensor_of(field) is not None:
        return None if misfit(field) else "pixels"
    kind = field.type
    if pa.types.is_struct(kind):
        return "struct" if any(inner.name == "bytes" and _holds_bytes(inner.type) for inner in kind) else None
    return "bytes" if _holds_bytes(kind) else None


def misfit(field: pa.Field) -> str:
    """Return why a column of tensors cannot be read as pictures; empty where it can, or where it has none."""
    found = tensor_of(field)
    if found is None:
        return ""
    kind, shape = found
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, None))
    if kind == pa.uint8() and is_image:
        return ""
    said = ", ".join("?" if side is None else str(side) for side in shape)
    return f"holds tensors of {kind} [{said}], and pictures are uint8 [height, width, 3]; write it as these"


def tensor_of(field: pa.Field) -> tuple[pa.DataType, tuple[int | None, ...]] | None:
    """Return the type of a tensor column's numbers and the shape of a row, sides that differ by row as None.

    None is returned for any other column.
    """
    kind, about = field.type, field.metadata or {}
    if isinstance(kind, pa.FixedShapeTensorType):
        return (
            (kind.value_type, tuple(kind.shape))
            if (kind.permutation or [0]) == sorted(kind.permutation or [0])
            else None
        )
    if isinstance(kind, pa.BaseExtensionType):
        name, said, kind = kind.extension_name, _serialised(kind), kind.storage_type
    else:
        name, said = about.get(_NAME, b"").decode(errors="replace"), about.get(_ABOUT, b"")
    try:
        if name in _FIXED:
            return kind.value_type, tuple(map(int, json.loads(said)))
        if name == _VARIABLE:
            return kind.field("data").type.value_type, (None,) * int(json.loads(said))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # not as Ray writes it, so an ordinary column
    return None


def _serialised(kind: pa.BaseExtensionType) -> bytes:
    serialise = getattr(kind, "__arrow_ext_serialize__", None)
    return serialise() if serialise else b""


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kinds.is_bytes(kind) or pa.types.is_fixed_size_binary(kind)


def has_only_paths(kind: pa.DataType) -> bool:
    """Return True for a struct of paths whose `bytes` no row has, so that they are of no type."""
    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    return pa.types.is_null(fields.get("bytes", kind)) and kinds.is_text(fields.get("path", pa.null()))


def as_pictures(field: pa.Field) -> pa.Field:
    """Return a column of one of the forms as it is given on: a struct keeps all of its fields."""
    if form_of(field) != "struct":
        return pa.field(field.name, IMAGE_TYPE, field.nullable)
    plain = [inner.with_type(pa.binary()) if inner.name == "bytes" else inner for inner in field.type]
    return field.with_type(pa.struct(plain))


def to_pictures(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """Return the values of a column, whose own `field` its shard has, as pictures."""
    wanted, form = as_pictures(field).type, form_of(field)
    if form == "struct":
        return column.cast(wanted)
    if form == "bytes":
        return pa.chunked_array([_wrapped(chunk.cast(pa.binary())) for chunk in column.chunks], wanted)
    tensors = (tensor for chunk in column.chunks for tensor in _tensors(chunk, field))
    encoded, strange = list[bytes | None](), 0
    for tensor in tensors:
        encoded.append(_png(tensor) if tensor is not None else None)
        strange += tensor is not None and encoded[-1] is None
    if strange:
        log.warning("column %s: %d rows hold tensors that are no pictures, and so no image", field.name, strange)
    return pa.chunked_array([_wrapped(pa.array(encoded, pa.binary()))], wanted)


def _wrapped(data: pa.Array) -> pa.StructArray:
    wrapped = image_array(data, [None] * len(data))
    if not data.null_count:
        return wrapped
    return pa.StructArray.from_arrays(wrapped.flatten(), fields=list(IMAGE_TYPE), mask=data.is_null())


def _tensors(chunk: pa.Array, field: pa.Field) -> Iterator[np.ndarray | None]:
    """Yield the tensor of each row, None for a null."""
    found = tensor_of(field)
    assert found is not None
    _, shape = found
    stored = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    for value in stored:
        if not value.is_valid:
            yield None
            continue
        flat, sides = (value["data"], value["shape"].as_py()) if None in shape else (value, shape)
        yield flat.values.to_numpy(zero_copy_only=False).reshape(sides)


def _png(pixels: np.ndarray) -> bytes | None:
    """Return pixels as PNG, those of one channel as grey; None where they are of no picture."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        return None
    return images.encode(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), _PNG)


def hold_images(values: Iterable[Any]) -> bool:
    """Return True where one of these values, as bytes or in a struct, begins as an encoded image does."""
    found = (value.get("bytes") if isinstance(value, dict) else value for value in values)
    return any(data is not None and images.format_of(data) is not None for data in found)


def place_among(values: Sequence[Any]) -> str | None:
    """Return the first of these texts where each that is there is the path or URL of an image; None elsewhere."""
    texts = [value for value in values if value]
    return texts[0] if texts and all(isinstance(text, str) and _PLACE.fullmatch(text) for text in texts) else None
