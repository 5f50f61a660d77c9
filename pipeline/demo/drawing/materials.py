"""Materials of a street: courses of blocks, and the colours that go with each wall."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.demo.drawing.parts import Label

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Masonry:
    """Courses of equal blocks, every other course shifted by half a block."""

    colour: Colour
    joint: Colour
    courses: int
    """Number of courses in the height of the image: a power of two, so that they fall on the same pixels in each."""
    blocks: int
    """Number of blocks in the width of the image; 1 for boards."""
    jitter: float
    """Standard deviation of the brightness of blocks."""
    relief: float = 0.0
    """Shade of a block at its upper edge, under the block above."""


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Colours that go with a wall."""

    trim: Colour
    door: Colour
    awning: Colour


MASONRY: Mapping[Label, Masonry] = {
    Label.PLASTER: Masonry(colour=(228, 184, 112), joint=(220, 175, 104), courses=16, blocks=1, jitter=0.0),
    Label.BRICK: Masonry(colour=(166, 80, 60), joint=(188, 142, 122), courses=32, blocks=16, jitter=0.07),
    Label.STONE: Masonry(colour=(202, 195, 182), joint=(164, 156, 144), courses=16, blocks=8, jitter=0.03),
    Label.SIDING: Masonry(colour=(146, 190, 182), joint=(106, 146, 140), courses=32, blocks=1, jitter=0.01, relief=0.1),
    Label.TILES: Masonry(colour=(196, 98, 64), joint=(132, 58, 40), courses=32, blocks=32, jitter=0.06, relief=0.3),
    Label.SLATE: Masonry(colour=(98, 108, 128), joint=(64, 72, 90), courses=32, blocks=16, jitter=0.06, relief=0.2),
    Label.PAVEMENT: Masonry(colour=(158, 154, 150), joint=(128, 124, 120), courses=32, blocks=8, jitter=0.02),
}
FINISHES: Mapping[Label, Finish] = {
    Label.PLASTER: Finish(trim=(248, 238, 216), door=(104, 62, 38), awning=(196, 48, 46)),
    Label.BRICK: Finish(trim=(234, 224, 208), door=(30, 76, 60), awning=(38, 112, 84)),
    Label.STONE: Finish(trim=(228, 223, 212), door=(44, 62, 108), awning=(46, 78, 148)),
    Label.SIDING: Finish(trim=(250, 250, 244), door=(184, 58, 48), awning=(236, 156, 54)),
}


def lay(masonry: Masonry, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return an image full of masonry, uint8 [side, side, 3]."""
    course, y = np.divmod(np.arange(side) * masonry.courses, side)
    shift = (np.arange(masonry.courses) % 2) * (side // 2)
    block, x = np.divmod(np.arange(side) * masonry.blocks + shift[:, None], side)
    joint_width = max(1, side // 256)
    tones = 1 + masonry.jitter * rng.standard_normal((masonry.courses, masonry.blocks + 1))
    colours = (tones[..., None] * np.array(masonry.colour)).clip(0, 255).astype(np.uint8)
    strips = colours[np.arange(masonry.courses)[:, None], block]  # [courses, side, 3]
    if masonry.blocks > 1:
        strips[x < joint_width * masonry.blocks] = masonry.joint
    picture = strips[course]
    if masonry.relief:
        fade = 1 - masonry.relief * (1 - y / side)
        picture = (picture * fade.astype(np.float32)[:, None, None]).astype(np.uint8)
    picture[y < joint_width * masonry.courses] = masonry.joint
    return picture
