"""Canvas on which a photograph is painted, and the strokes that painters use."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from pipeline.demo.drawing.materials import MASONRY, Colour, lay
from pipeline.demo.drawing.parts import SQUARE, Label, Part

Pixels = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""

SHADE = (24, 20, 36)
"""Colour that shadows lay over what is below."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Photograph while it is painted."""

    photo: Image.Image
    side: int
    """Height and width of `photo`, in pixels."""
    draw: ImageDraw.ImageDraw
    """Drawing context of `photo`; a colour with an alpha is laid over it."""
    unit: float
    """Unit of length in pixels: 1/128 of the side."""
    rng: np.random.Generator
    textures: dict[Label, Image.Image] = field(default_factory=dict)
    """Masonry by label, each laid when first needed."""


def canvas_over(background: np.ndarray, rng: np.random.Generator) -> Canvas:
    """Return a canvas that begins with a square background, uint8 [side, side, 3]."""
    photo, side = Image.fromarray(background), len(background)
    return Canvas(photo=photo, side=side, draw=ImageDraw.Draw(photo, "RGBA"), unit=side / 128, rng=rng)


def pixels_of(part: Part, side: int) -> Pixels:
    """Return the box of a part in an image with this side, at least one pixel wide and high."""
    left, top, right, bottom = (round(edge * side) for edge in part.box)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def mask_of(part: Part, box: Pixels) -> Image.Image:
    """Return the outline of a part stretched to a box, 255 inside."""
    width, height = box[2] - box[0], box[3] - box[1]
    if part.outline is SQUARE:
        return Image.new("L", (width, height), 255)
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).polygon([(x * (width - 1), y * (height - 1)) for x, y in part.outline], fill=255)
    return mask


def paste_texture(canvas: Canvas, part: Part) -> None:
    """Fill a part with the masonry of its label."""
    if part.label not in canvas.textures:
        canvas.textures[part.label] = Image.fromarray(lay(MASONRY[part.label], canvas.side, canvas.rng))
    box = pixels_of(part, canvas.side)
    canvas.photo.paste(canvas.textures[part.label].crop(box), box[:2], mask_of(part, box))


def paste_surround(canvas: Canvas, part: Part, colour: Colour, margin: float) -> None:
    """Fill a part's outline, widened by a margin in pixels at the sides and the top."""
    left, top, right, bottom = pixels_of(part, canvas.side)
    box = (round(left - margin), round(top - margin), round(right + margin), bottom)
    canvas.photo.paste(colour, box[:2], mask_of(part, box))


def fill_box(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], fill: tuple[int, ...]) -> None:
    """Fill a box whose right and bottom are exclusive; one thinner than a pixel gets a pixel."""
    left, top, right, bottom = (round(edge) for edge in box)
    draw.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), fill=fill)


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """Return a vertical gradient of a size (width, height)."""
    column = np.linspace(top, bottom, max(1, size[1])).astype(np.uint8)[:, None]
    return Image.fromarray(column).resize(size)


def cast_shadow(canvas: Canvas, box: tuple[float, float, float, float], strength: float) -> None:
    """Draw a shadow of this strength (0 to 1) at its upper edge, from where it fades downwards."""
    left, top, right, bottom = (round(edge) for edge in box)
    rows = max(1, bottom - top)
    for row in range(rows):
        alpha = round(255 * strength * (1 - row / rows))
        canvas.draw.line((left, top + row, right - 1, top + row), fill=(*SHADE, alpha))


@cache
def toned(colour: Colour, factor: float) -> Colour:
    """Return a colour made brighter or darker."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue
