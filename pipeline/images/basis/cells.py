"""Cells of image columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.images.basis.blame import BadImage


def encoded_in(cell: Mapping[str, Any] | None) -> bytes:
    """Return the encoded image in a cell of an image column. Raises BadImage where the cell has none."""
    found = (cell or {}).get("bytes")
    if found is None and (cell or {}).get("path"):
        raise BadImage(
            "empty",
            "the cell has only the path of an image, and a path is never opened; put the bytes into the column first "
            "(datasets: cast it to Image, then save_to_disk or push_to_hub embeds them), or give the folder as input",
        )
    if found is None:
        raise BadImage("empty", "the cell has no image")
    return found
