"""Features of a tar for the head of a dataset card, as `datasets` writes them: it then infers none.

It infers them from the first tar, and fails where that has no samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import yaml

from pipeline.stores.forms.tars.writing import JSON, UNKNOWN
from pipeline.stores.tables.schema import image_columns


def features_of_tar(schema: pa.Schema, endings: Iterable[str]) -> str:
    """Return features of samples with these columns and endings, as lines of YAML; empty where one has no name there.

    Values are those that are in the `.json`: a time is a whole number, bytes are text.
    """
    pictures = image_columns(schema)
    fields = [
        field.with_type(pa.struct([each for each in field.type if each.name != "bytes"]))
        if field.name in pictures
        else field
        for field in schema
    ]
    try:
        said = [{"name": field.name} | _feature(field.type) for field in fields if field.type != pa.struct([])]
    except ValueError:
        return ""
    kinds = {ending: "binary" if ending.rpartition(".")[2] == UNKNOWN else "image" for ending in endings}
    features: list[dict[str, Any]] = [{"name": e, "dtype": kind} for e, kind in kinds.items() if e != JSON]
    features += [{"name": JSON, "struct": said}]
    features += [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return yaml.safe_dump({"dataset_info": {"features": features}}, sort_keys=False, allow_unicode=True)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """Return the feature of values of a type, as they are in JSON. Raises ValueError where there is none."""
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name} | _feature(field.type) for field in kind]}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    if pa.types.is_dictionary(kind):
        return _feature(kind.value_type)
    if pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return {"dtype": "int64"}
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return {"dtype": str(kind)}
    if pa.types.is_floating(kind):
        return {"dtype": f"float{kind.bit_width}"}
    if any(
        is_one(kind)
        for is_one in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary,
            pa.types.is_fixed_size_binary, pa.types.is_decimal,
        )
    ):  # fmt: skip
        return {"dtype": "string"}
    raise ValueError(f"{kind} has no feature")
