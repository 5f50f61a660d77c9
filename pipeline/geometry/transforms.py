"""Where boxes and points of a picture are after it is turned and resized. Plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry.kinds import Frame, numbers_of


@dataclass(frozen=True)
class Move:
    """What happened to a picture: it was turned by an EXIF orientation, then resized."""

    orientation: int
    """EXIF orientation, 1 to 8, that its pixels were turned by."""
    before: tuple[int, int]
    """Width and height after it was turned, in pixels."""
    after: tuple[int, int]
    """Width and height after it was resized."""
    frame: Frame = "stored"

    @property
    def turns(self) -> bool:
        """Return True where coordinates of the frame are turned with the picture."""
        return self.frame == "stored" and self.orientation != 1

    @property
    def is_none(self) -> bool:
        return not self.turns and self.before == self.after


def moved(values: np.ndarray, kind: str, move: Move) -> np.ndarray:
    """Return boxes or points, float64 [N, numbers of the kind], where they are after the move."""
    form = kind.removesuffix("_normalised")
    normalised = form != kind
    corners = _to_points(values, form)
    if move.turns:
        width, height = move.before if move.orientation < 5 else move.before[::-1]
        corners = _turned(corners, move.orientation, (1.0, 1.0) if normalised else (width, height))
    if not normalised:
        corners = corners * np.divide(move.after, move.before)
    found = _from_points(corners, form)
    if form == "xyv":
        found = np.column_stack([found, values[:, 2]])
        absent = ~values.any(1)  # COCO's keypoints that nobody has labelled are 0, 0, 0
        found[absent] = 0
    return found


def _to_points(values: np.ndarray, form: str) -> np.ndarray:
    """Return the two corners of each box, or each point, [N, 2 or 1, 2]."""
    if form in ("xy", "xyv"):
        return values[:, None, :2]
    if form == "xyxy":
        return values.reshape(-1, 2, 2)
    first, size = values[:, :2], values[:, 2:]
    first = first - size / 2 if form == "cxcywh" else first
    return np.stack([first, first + size], 1)


def _from_points(points: np.ndarray, form: str) -> np.ndarray:
    if form in ("xy", "xyv"):
        return points[:, 0]
    low, high = points.min(1), points.max(1)
    if form == "xyxy":
        return np.hstack([low, high])
    return np.hstack([(low + high) / 2 if form == "cxcywh" else low, high - low])


def _turned(points: np.ndarray, orientation: int, size: tuple[float, float]) -> np.ndarray:
    """Return points of a picture of this size (width, height), turned as its pixels are."""
    (width, height), x, y = size, points[..., 0], points[..., 1]
    turned = {
        2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y), 5: (y, x),
        6: (height - y, x), 7: (height - y, width - x), 8: (y, width - x),
    }[orientation]  # fmt: skip
    return np.stack(turned, -1)


def check_count(numbers: int, kind: str) -> str:
    """Return what is wrong with a list of so many numbers; empty where they are whole boxes or points."""
    each = numbers_of(kind)
    return "" if numbers % each == 0 else f"a list of {numbers} numbers, and {kind} has {each} each"
