"""Galleries of a report as plain data: rows of pictures that belong together, under common heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """Pictures that belong together, such as an input and its translation."""

    caption: str
    """Key of the row."""
    pictures: Sequence[np.ndarray | str | None]
    """One for each head of the gallery: uint8 [H, W, 3], or where there is none, why, or None. A page makes those
    smaller that are larger than it shows them."""
    scores: Sequence[tuple[str, str]] = ()
    """Names and values of the row's scores, as they are to be read."""

    def __post_init__(self) -> None:
        for picture in self.pictures:
            if picture is None or isinstance(picture, str):
                continue
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                shape = "×".join(map(str, picture.shape))
                raise ValueError(f"a picture of {self.caption!r} is {shape} {picture.dtype}, not [H, W, 3] uint8")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Contact sheet of a page: rows of pictures under common heads. A terminal leaves it out."""

    title: str
    heads: Sequence[str]
    """Names of the columns, such as "input", "translation", "target" and "cycle". Where there are "input" and
    "translation", a page can lay one over the other."""
    rows: Sequence[GalleryRow]
    note: str = ""
    """Sentence below the pictures, such as how many rows are not shown."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.pictures) != len(self.heads):
                many = f"{len(row.pictures)} pictures for {len(self.heads)} columns"
                raise ValueError(f"row {row.caption!r} of {self.title!r} has {many}: {', '.join(self.heads)}")
