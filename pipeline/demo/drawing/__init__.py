"""Drawn facades: a paired data set for demonstrations and tests that needs no download.

A street is planned as a list of parts. Its label map fills their outlines with one colour per label; its photograph
paints the same parts with material and light. So the map largely determines the photograph, as a translator needs:
walls and roofs have labels of their own, and the colours of doors, awnings and trim follow from the wall. The map
leaves little open: clouds, curtains, leaves, stains, and the tint of the light.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from pipeline.demo.drawing.canvas import mask_of, pixels_of
from pipeline.demo.drawing.parts import PALETTE, Label, Part
from pipeline.demo.drawing.photograph import paint_street
from pipeline.demo.drawing.street import plan_street

__all__ = ["PALETTE", "Label", "draw_pair", "draw_pairs"]


def draw_pair(seed: int, index: int, size: int) -> np.ndarray:
    """Draw photograph (A, left) and label map (B, right) of one street, uint8 [size, 2 * size, 3].

    The result depends on the arguments alone. Every pixel of the map has exactly one of the colours of `PALETTE`.
    """
    if size < 16:
        raise ValueError(f"size is {size}: a drawn picture needs at least 16 pixels a side")
    rng = np.random.default_rng((seed, index))
    parts = plan_street(rng)
    return np.concatenate([paint_street(parts, size, rng), PALETTE[_label_indices(parts, size)]], axis=1)


def draw_pairs(count: int, size: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield `count` pairs with their names, facade-0000 and so on."""
    for index in range(count):
        yield f"facade-{index:04d}", draw_pair(seed, index, size)


def _label_indices(parts: Sequence[Part], size: int) -> np.ndarray:
    """Return the label of each pixel, uint8 [size, size]."""
    labels = Image.new("L", (size, size), int(Label.SKY))
    for part in parts:
        box = pixels_of(part, size)
        labels.paste(int(part.label), box[:2], mask_of(part, box))
    return np.asarray(labels)
