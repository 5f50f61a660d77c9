"""Features of `datasets`: the meaning of its columns beyond their types, kept as JSON in a schema's metadata.

A column of class labels holds integers; only the features hold their names. So features travel with the rows of a
store, and shards with different names are not one store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa

_METADATA = b"huggingface"
_IMAGE = {"_type": "Image"}

Features = Mapping[str, Any]
"""Features by column, each as `datasets` writes it."""

_Rows = TypeVar("_Rows", pa.Schema, pa.Table)


def features_of(schema: pa.Schema) -> Features:
    """Return the features that a schema carries; none where its metadata cannot be read."""
    return _parsed((schema.metadata or {}).get(_METADATA, b""))


def with_features(rows: _Rows, features: Features) -> _Rows:
    """Return a table or a schema that carries these features of its columns, and no other metadata."""
    schema = rows if isinstance(rows, pa.Schema) else rows.schema
    kept = {name: features[name] for name in schema.names if name in features}
    metadata = {_METADATA: json.dumps({"info": {"features": kept}}).encode()} if kept else None
    return rows.with_metadata(metadata) if isinstance(rows, pa.Schema) else rows.replace_schema_metadata(metadata)


def without_features(rows: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Return `rows` without the features of these columns, whose content has changed."""
    gone, features = set(columns), features_of(rows.schema)
    return with_features(rows, {name: feature for name, feature in features.items() if name not in gone})


def features_of_shard(schema: pa.Schema, pictures: Iterable[str]) -> Features:
    """Return the features of a shard to be written: those that its rows carry, with `pictures` marked as images."""
    carried = features_of(schema)
    return {**carried, **{name: _IMAGE for name in pictures if _type(carried.get(name)) != "Image"}}


def is_other_than_image(feature: Any) -> bool:
    """Return True where a feature says that its column is no image but, say, sound, which is stored like one."""
    return _type(feature) not in ("", "Image")


def united(first: Features, *others: Features) -> Features:
    """Merge the features of all; where a column has several, take the first that names classes, else the first."""
    merged = dict(first)
    for other in others:
        for name, feature in other.items():
            if name not in merged or (class_names(feature) and not class_names(merged[name])):
                merged[name] = feature
    return merged


def differing_classes(first: Features, other: Features) -> dict[str, str]:
    """Return columns with different class names in both, and the difference; a column without names agrees with all."""
    found = {}
    for name in first.keys() & other.keys():
        here, there = class_names(first[name]), class_names(other[name])
        for path in here.keys() & there.keys():
            if here[path] != there[path]:
                found[name] = _difference(here[path], there[path])
    return found


def class_names(feature: Any) -> dict[str, list[str]]:
    """Return the class names in a feature, by their path in it, however deep."""
    return dict(_class_names(feature, ""))


def _class_names(feature: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(feature, list):
        feature = {"feature": feature[0]} if feature else {}
    if not isinstance(feature, dict):
        return
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        yield path, feature["names"]
    for name, inner in feature.items():
        if isinstance(inner, dict | list) and name != "names":
            yield from _class_names(inner, f"{path}/{name}")


def _difference(here: list[str], there: list[str]) -> str:
    for number, (one, other) in enumerate(zip(here, there, strict=False)):
        if one != other:
            return f"class {number} is {other!r} instead of {one!r}"
    return f"{len(there)} classes instead of {len(here)}"


def _type(feature: Any) -> str:
    kind = feature.get("_type", "") if isinstance(feature, dict) else ""
    return kind if isinstance(kind, str) else ""


def _parsed(text: bytes) -> Features:
    try:
        found = json.loads(text or "{}")["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
