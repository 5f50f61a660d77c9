"""Plan a street: one to three houses with everything on them, as parts from back to front."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.demo.drawing.parts import GABLE, HIP, OVAL, ROOFS, SQUARE, WALLS, Box, Label, Outline, Part, arch


@dataclass(frozen=True, kw_only=True)
class House:
    """Decisions that all parts of one house share; lengths in fractions of the image's side."""

    wall: Label
    roof: Label
    left: float
    right: float
    eave: float
    ground: float
    storeys: int
    bays: int
    margin: float
    """Width of the wall at either end, outside the bays."""

    @property
    def storey(self) -> float:
        """Return the height of an upper storey; the ground floor is a quarter higher."""
        return (self.ground - self.eave) / (self.storeys + 0.25)

    @property
    def bay(self) -> float:
        return (self.right - self.left - 2 * self.margin) / self.bays

    @property
    def belt(self) -> float:
        """Return the y at which the ground floor ends."""
        return self.eave + self.storey * (self.storeys - 1)

    def column(self, index: int) -> float:
        """Return the x of the middle of a bay."""
        return self.left + self.margin + self.bay * (index + 0.5)

    def part(self, label: Label, box: Box, outline: Outline = SQUARE) -> Part:
        return Part(label=label, box=box, wall=self.wall, outline=outline)


@dataclass(frozen=True, kw_only=True)
class WindowStyle:
    """Style of the windows of one house: width in bays, height in storeys."""

    width: float
    height: float
    rise: float
    """Height of the arch over the windows, as a share of theirs; 0 for a straight top."""
    sill: bool
    lintel: Label | None
    pediments: bool
    shutters: bool


def plan_street(rng: np.random.Generator) -> list[Part]:
    """Plan a street as parts from back to front, none of them sky."""
    ground = rng.uniform(0.9, 0.95)
    parts = [Part(label=Label.PAVEMENT, box=(0.0, ground, 1.0, 1.0), wall=Label.STONE)]
    walls = rng.permutation(len(WALLS))
    for index, (left, right) in enumerate(_plots(rng)):
        parts.extend(_house_parts(rng, _house(rng, WALLS[walls[index]], left, right, ground)))
    if rng.random() < 0.45:
        parts.extend(_tree(rng, ground))
    return parts


def _plots(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return left and right of each house: one that stands alone or fills the image, or a row that runs out of it."""
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    if count == 1:
        return [(rng.uniform(-0.05, 0.16), rng.uniform(0.84, 1.05))]
    shares = rng.uniform(0.8, 1.3, count)
    edges = np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])
    start, end = rng.uniform(-0.12, 0.06), rng.uniform(0.94, 1.12)
    edges = start + edges * (end - start)
    return [(float(left), float(right)) for left, right in pairwise(edges)]


def _house(rng: np.random.Generator, wall: Label, left: float, right: float, ground: float) -> House:
    eave = rng.uniform(0.14, 0.36)
    width = right - left
    margin = width * rng.uniform(0.02, 0.07)
    return House(
        wall=wall,
        roof=ROOFS[int(rng.integers(len(ROOFS)))],
        left=left,
        right=right,
        eave=eave,
        ground=ground,
        storeys=max(2, round((ground - eave) / rng.uniform(0.17, 0.25) - 0.25)),
        bays=max(2, round((width - 2 * margin) / rng.uniform(0.14, 0.23))),
        margin=margin,
    )


def _window_style(rng: np.random.Generator) -> WindowStyle:
    shutters = bool(rng.random() < 0.25)
    rise = float(rng.choice([0.0, 0.14, 0.28], p=[0.6, 0.2, 0.2]))
    lintels = (None, Label.LINTEL, Label.DECO)
    lintel = lintels[rng.choice(3, p=[0.35, 0.4, 0.25])]
    return WindowStyle(
        width=rng.uniform(0.36, 0.44) if shutters else rng.uniform(0.42, 0.62),
        height=rng.uniform(0.54, 0.66),
        rise=rise,
        sill=bool(rng.random() < 0.75),
        lintel=None if rise else lintel,
        pediments=bool(rng.random() < 0.5),
        shutters=shutters,
    )


def _house_parts(rng: np.random.Generator, house: House) -> Iterator[Part]:
    style = _window_style(rng)
    yield from _roof(rng, house)
    yield house.part(house.wall, (house.left, house.eave, house.right, house.ground))
    yield from _relief(rng, house)
    balconies = _balconies(rng, house)
    for floor in range(house.storeys - 1):
        for column in range(house.bays):
            yield from _window(house, style, floor, column, balcony=bool(balconies[floor, column]))
    yield from _ground_floor(rng, house, style)


def _roof(rng: np.random.Generator, house: House) -> Iterator[Part]:
    left, right, eave, width = house.left, house.right, house.eave, house.right - house.left
    height = min(rng.uniform(0.07, 0.15), eave - 0.03)
    kind = rng.choice(["hip", "gable", "flat"], p=[0.55, 0.25, 0.2])
    if kind == "flat":
        yield house.part(Label.DECO, (left, eave - 0.045, right, eave))
        return
    for place in rng.uniform(0.2, 0.8, int(rng.integers(0, 3))):
        stack = left + width * place
        yield house.part(house.wall, (stack - 0.018, eave - height - 0.03, stack + 0.018, eave))
    overhang = 0.012
    if kind == "gable":
        height = min(width * rng.uniform(0.2, 0.32), eave - 0.02)
        yield house.part(house.roof, (left - 2 * overhang, eave - height - 0.03, right + 2 * overhang, eave), GABLE)
        yield house.part(house.wall, (left, eave - height, right, eave), GABLE)
        middle, size = (left + right) / 2, height * 0.2
        yield house.part(Label.WINDOW, (middle - size, eave - 2.6 * size, middle + size, eave - 0.6 * size), OVAL)
        return
    yield house.part(house.roof, (left - overhang, eave - height, right + overhang, eave), HIP)
    if height > 0.08 and rng.random() < 0.6:
        for column in range(house.bays):
            x, size = house.column(column), min(0.3 * house.bay, 0.03)
            top, bottom = eave - 0.7 * height, eave - 0.15 * height
            yield house.part(house.wall, (x - 1.35 * size, top - 0.02, x + 1.35 * size, bottom), GABLE)
            yield house.part(house.wall, (x - 1.35 * size, (top + bottom) / 2, x + 1.35 * size, bottom))
            yield house.part(Label.WINDOW, (x - 0.8 * size, top + 0.015, x + 0.8 * size, bottom))


def _relief(rng: np.random.Generator, house: House) -> Iterator[Part]:
    """Yield what stands out from the wall: pillars, then the cornices that they carry."""
    if rng.random() < 0.4:
        half = min(0.014, 0.09 * house.bay)
        bottom = house.belt if rng.random() < 0.6 else house.ground
        inner = [house.column(index) - house.bay / 2 for index in range(1, house.bays)] if rng.random() < 0.6 else []
        for x in [house.left + half, *inner, house.right - half]:
            yield house.part(Label.PILLAR, (x - half, house.eave, x + half, bottom))
    depth = rng.uniform(0.022, 0.036)
    yield house.part(Label.CORNICE, (house.left - 0.008, house.eave, house.right + 0.008, house.eave + depth))
    floors = range(1, house.storeys) if rng.random() < 0.3 else [house.storeys - 1]
    for floor in floors:
        y = house.eave + floor * house.storey
        yield house.part(Label.CORNICE, (house.left, y - 0.009, house.right, y + 0.009))


def _balconies(rng: np.random.Generator, house: House) -> np.ndarray:
    """Decide which windows have a balcony, bool [upper floors, bays]."""
    floors, columns = np.arange(house.storeys - 1)[:, None], np.arange(house.bays)[None, :]
    patterns = [
        (floors < 0) & (columns < 0),
        (columns == house.bays // 2) & (floors > 0),
        (columns % 2 == 0) & (floors >= 0),
        (floors == house.storeys - 2) & (columns >= 0),
        (floors + columns) % 2 == 0,
    ]
    return patterns[int(rng.choice(len(patterns), p=[0.4, 0.2, 0.15, 0.15, 0.1]))]


def _window(house: House, style: WindowStyle, floor: int, column: int, *, balcony: bool) -> Iterator[Part]:
    x, half = house.column(column), style.width * house.bay / 2
    top_floor_gap = 0.03 if floor == 0 else 0.0
    bottom = house.eave + house.storey * (floor + 0.84)
    top = max(bottom - style.height * house.storey, house.eave + house.storey * (floor + 0.2) + top_floor_gap)
    if style.shutters:
        yield house.part(Label.SHUTTER, (x - 1.8 * half, top, x - half, bottom))
        yield house.part(Label.SHUTTER, (x + half, top, x + 1.8 * half, bottom))
    yield house.part(Label.WINDOW, (x - half, top, x + half, bottom), arch(style.rise) if style.rise else SQUARE)
    if style.lintel is not None:
        gabled = style.pediments and floor == house.storeys - 2
        height = 0.026 if gabled else 0.014
        box = (x - 1.25 * half, top - height - 0.004, x + 1.25 * half, top - 0.004)
        yield house.part(style.lintel, box, GABLE if gabled else SQUARE)
    if balcony:
        yield house.part(Label.BALCONY, (x - 1.4 * half, bottom - 0.3 * house.storey, x + 1.4 * half, bottom + 0.012))
    elif style.sill:
        yield house.part(Label.SILL, (x - 1.2 * half, bottom, x + 1.2 * half, bottom + 0.012))


def _ground_floor(rng: np.random.Generator, house: House, style: WindowStyle) -> Iterator[Part]:
    top, bottom = house.belt + 0.2 * (house.ground - house.belt), house.ground
    entrance = int(rng.integers(house.bays))
    shops = rng.random() < 0.5
    crown = arch(0.3) if rng.random() < 0.5 else SQUARE
    for column in range(house.bays):
        x = house.column(column)
        if column == entrance:
            half = min(0.3 * house.bay, 0.045)
            yield house.part(Label.DOOR, (x - half, top + 0.01, x + half, bottom), crown)
        elif shops:
            half = 0.45 * house.bay
            yield house.part(Label.SHOP, (x - half, top - 0.01, x + half, bottom))
        else:
            half = style.width * house.bay / 2
            low = bottom - 0.28 * (bottom - top)
            yield house.part(Label.WINDOW, (x - half, top + 0.01, x + half, low), crown)
            yield house.part(Label.SILL, (x - 1.2 * half, low, x + 1.2 * half, low + 0.012))


def _tree(rng: np.random.Generator, ground: float) -> Iterator[Part]:
    """Yield a tree or a bush in front of the houses: overlapping ovals."""
    x, size = rng.uniform(0.05, 0.95), rng.uniform(0.07, 0.12)
    trunk = rng.choice([0.0, 0.12])
    foot, middle = ground + 0.025, ground - trunk - 0.8 * size
    if trunk:
        yield Part(label=Label.TREE, box=(x - 0.012, middle, x + 0.012, foot), wall=Label.STONE)
    for dx, dy in ((-0.55, 0.25), (0.55, 0.2), (0.0, -0.35), (0.05, 0.35)):
        cx, cy = x + dx * size, middle + dy * size
        yield Part(label=Label.TREE, box=(cx - size, cy - size, cx + size, cy + size), wall=Label.STONE, outline=OVAL)
