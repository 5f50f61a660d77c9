"""Parts of a drawn street, their labels, and the colour of each label in the map."""

from dataclasses import dataclass
from enum import IntEnum
from math import cos, pi, sin

import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in fractions of the image's side; y grows downwards."""

Outline = tuple[tuple[float, float], ...]
"""Polygon inside the unit square, stretched to the box of its part."""


class Label(IntEnum):
    """Labels that a pixel of the map may have."""

    SKY = 0
    PAVEMENT = 1
    TREE = 2
    PLASTER = 3
    BRICK = 4
    STONE = 5
    SIDING = 6
    TILES = 7
    SLATE = 8
    WINDOW = 9
    DOOR = 10
    SHOP = 11
    SHUTTER = 12
    SILL = 13
    LINTEL = 14
    BALCONY = 15
    CORNICE = 16
    PILLAR = 17
    DECO = 18


WALLS = (Label.PLASTER, Label.BRICK, Label.STONE, Label.SIDING)
ROOFS = (Label.TILES, Label.SLATE)

# Colours of the CMP facade database where it has the class; the others are chosen to stay distinct from them.
_COLOURS = {
    Label.SKY: (0, 0, 170),
    Label.PAVEMENT: (70, 70, 70),
    Label.TREE: (0, 140, 60),
    Label.PLASTER: (0, 0, 255),
    Label.BRICK: (125, 0, 235),
    Label.STONE: (105, 105, 225),
    Label.SIDING: (0, 100, 130),
    Label.TILES: (190, 0, 110),
    Label.SLATE: (95, 0, 95),
    Label.WINDOW: (0, 85, 255),
    Label.DOOR: (0, 170, 255),
    Label.SHOP: (170, 0, 0),
    Label.SHUTTER: (255, 255, 0),
    Label.SILL: (85, 255, 170),
    Label.LINTEL: (0, 255, 255),
    Label.BALCONY: (170, 255, 85),
    Label.CORNICE: (255, 85, 0),
    Label.PILLAR: (255, 0, 0),
    Label.DECO: (255, 170, 0),
}
PALETTE = np.array([_COLOURS[label] for label in Label], np.uint8)
"""Colour of each label in the map, uint8 [labels, 3]."""

SQUARE: Outline = ((0, 0), (1, 0), (1, 1), (0, 1))
GABLE: Outline = ((0.5, 0), (1, 1), (0, 1))
HIP: Outline = ((0.1, 0), (0.9, 0), (1, 1), (0, 1))
OVAL: Outline = tuple((0.5 + cos(a * pi / 16) / 2, 0.5 + sin(a * pi / 16) / 2) for a in range(32))


def arch(rise: float) -> Outline:
    """Return a rectangle whose upper `rise` (a fraction of its height) is half an ellipse."""
    crown = tuple((0.5 - cos(a * pi / 12) / 2, rise * (1 - sin(a * pi / 12))) for a in range(13))
    return (*crown, (1.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing in a street, with its place and its wall."""

    label: Label
    box: Box
    wall: Label
    """Wall of the part's house, which decides the colours of doors, awnings and trim."""
    outline: Outline = SQUARE
