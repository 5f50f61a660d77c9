"""Kinds of geometry, and the declaration of a job's columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "xyxy", "xywh", "cxcywh", "xy", "xyv",
    "xyxy_normalised", "xywh_normalised", "cxcywh_normalised", "xy_normalised", "xyv_normalised",
    "image",
]  # fmt: skip
"""Form of a column's numbers. Boxes: xyxy by two corners, xywh by the upper left corner and their size (COCO), cxcywh
by their centre and size (YOLO). Points: xy, and xyv with a visibility (COCO). Coordinates are pixels from the upper
left corner of the picture, 0 its edge; those of `_normalised` kinds are shares of its width and height. image: a mask,
an encoded image of the picture's size."""

Frame = Literal["stored", "oriented"]
"""Picture that the coordinates are of: as its pixels are stored, or as viewers show it, by its EXIF orientation."""
_LIKELY = re.compile(r"(?i)(^|_)(bbox(es)?|box(es)?|keypoints?|landmarks?|masks?|segmentations?|polygons?)($|_)")


@dataclass(frozen=True)
class Geometry:
    """Columns with geometry."""

    columns: Mapping[str, Kind] = field(default_factory=dict)
    """Kinds by the name of the column; a dot leads to a field of a struct, as in objects.bbox."""
    frame: Frame = "stored"
    resized: bool = False
    """True where pictures are published at the size to which they are decoded, and not at their own."""

    def record(self) -> dict[str, Any]:
        """Return it as a job's record holds it; empty where there are no columns."""
        return {"geometry": dict(self.columns), "geometry_frame": self.frame} if self.columns else {}


NO_GEOMETRY = Geometry()


def numbers_of(kind: str) -> int:
    """Return how many numbers a box or a point of this kind has."""
    return {"xyxy": 4, "xywh": 4, "cxcywh": 4, "xy": 2, "xyv": 3}[kind.removesuffix("_normalised")]


def likely(names: Iterable[str]) -> list[str]:
    """Return those of a store's columns whose names say that they hold geometry."""
    return [name for name in names if _LIKELY.search(name)]
