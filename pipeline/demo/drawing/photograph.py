"""Paint the photograph of a street: every part with its material, light from the upper left, and shadows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipeline.demo.drawing.canvas import (
    SHADE,
    Canvas,
    canvas_over,
    cast_shadow,
    fill_box,
    gradient,
    mask_of,
    paste_surround,
    paste_texture,
    pixels_of,
    toned,
)
from pipeline.demo.drawing.materials import FINISHES, MASONRY
from pipeline.demo.drawing.parts import SQUARE, Label, Part

SUPERSAMPLING = 2
"""Factor by which the photograph is painted larger, to be averaged down."""


def paint_street(parts: Sequence[Part], size: int, rng: np.random.Generator) -> np.ndarray:
    """Paint the photograph of a street, uint8 [size, size, 3]."""
    canvas = canvas_over(_sky(size * SUPERSAMPLING, rng), rng)
    for part in parts:
        PAINTERS[part.label](canvas, part)
    return _in_light(np.asarray(canvas.photo.reduce(SUPERSAMPLING)), rng)


def _smooth_noise(side: int, cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return blotches on a grid of (rows, columns), float32 [side, side] around 0."""
    grid = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))


def _sky(side: int, rng: np.random.Generator) -> np.ndarray:
    """Paint a sky, blue above, pale below, with thin clouds; uint8 [side, side, 3]."""
    coarse = 64  # a sky has no edges, so a small one can be enlarged
    depth = np.linspace(0, 1, coarse)[:, None, None] ** 0.7
    sky = (1 - depth) * np.array([98, 154, 216]) + depth * np.array([236, 238, 234])
    clouds = 0.6 * _smooth_noise(coarse, (9, 3), rng) + 0.4 * _smooth_noise(coarse, (18, 9), rng)
    sky = sky + (0.45 * clouds).clip(0, 0.6)[..., None] * (np.array([250, 250, 248]) - sky)
    return np.asarray(Image.fromarray(sky.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC))


def _in_light(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add stains, light that falls off to the right, and the tint of the day; uint8 [H, H, 3] to the same."""
    side = len(photo)
    fall = np.linspace(1.05, 0.95, side, dtype=np.float32)
    light = fall[None, :] * (1 + 0.016 * _smooth_noise(side, (14, 14), rng))
    tint = 1 + 0.02 * rng.standard_normal(3).astype(np.float32)
    return (photo * light[..., None] * tint).clip(0, 255).astype(np.uint8)


def _wall(canvas: Canvas, part: Part) -> None:
    paste_texture(canvas, part)
    if part.outline is not SQUARE:
        return
    (left, top, right, bottom), u = pixels_of(part, canvas.side), canvas.unit
    fill_box(canvas.draw, (left, top, left + u / 2, bottom), (255, 255, 255, 60))
    fill_box(canvas.draw, (right - u, top, right, bottom), (*SHADE, 70))
    cast_shadow(canvas, (left, top, right, top + 6 * u), 0.3)
    fill_box(canvas.draw, (left, bottom - 2.5 * u, right, bottom), (*SHADE, 60))


def _pavement(canvas: Canvas, part: Part) -> None:
    """Paint flagstones, a curb and the road."""
    paste_texture(canvas, part)
    (left, top, right, bottom), u = pixels_of(part, canvas.side), canvas.unit
    curb = top + (bottom - top) * 0.55
    cast_shadow(canvas, (left, top, right, top + 3 * u), 0.35)
    fill_box(canvas.draw, (left, curb, right, curb + u), (206, 202, 196))
    fill_box(canvas.draw, (left, curb + u, right, bottom), (84, 86, 92))
    cast_shadow(canvas, (left, curb + u, right, curb + 3 * u), 0.5)


def _window(canvas: Canvas, part: Part) -> None:
    """Paint glass that mirrors the sky, curtains behind some of it, and a frame with mullions, deep in the wall."""
    box, u = pixels_of(part, canvas.side), canvas.unit
    width, height = box[2] - box[0], box[3] - box[1]
    paste_surround(canvas, part, FINISHES[part.wall].trim, u)
    pane = gradient((width, height), (142, 176, 204), (44, 58, 76))
    draw = ImageDraw.Draw(pane, "RGBA")
    draw.polygon([(w * width, h * height) for w, h in ((0.5, 0), (0.95, 0), (0.35, 1), (-0.1, 1))], (255, 255, 255, 46))
    if canvas.rng.random() < 0.4:
        for x in (0, width * 0.75):
            fill_box(draw, (x, 0, x + width / 4, height), (250, 240, 220, 80))
    frame, bar = (244, 242, 236), max(1, round(0.55 * u))
    panes = max(1, round(width / (7 * u)))
    for index in range(panes + 1):
        x = index * (width - bar) / panes
        fill_box(draw, (x, 0, x + bar, height), frame)
    for y in (0, height * 0.36, height - bar):
        fill_box(draw, (0, y, width, y + bar), frame)
    fill_box(draw, (0, 0, width, 1.3 * u), (*SHADE, 130))
    fill_box(draw, (0, 0, 0.8 * u, height), (*SHADE, 100))
    canvas.photo.paste(pane, box[:2], mask_of(part, box))


def _door(canvas: Canvas, part: Part) -> None:
    """Paint two leaves with four panels under a fanlight, and a step."""
    box, u = pixels_of(part, canvas.side), canvas.unit
    width, height = box[2] - box[0], box[3] - box[1]
    wood = FINISHES[part.wall].door
    paste_surround(canvas, part, FINISHES[part.wall].trim, 1.4 * u)
    door, light = Image.new("RGB", (width, height), wood), round(height * 0.27)
    door.paste(gradient((width, light), (150, 180, 204), (66, 80, 96)))
    draw = ImageDraw.Draw(door, "RGBA")
    for x in (0.25, 0.5, 0.75):
        fill_box(draw, (x * width - u / 4, 0, x * width + u / 4, light), wood)
    fill_box(draw, (0, light, width, light + u), toned(wood, 0.7))
    for x0, x1 in ((0.09, 0.44), (0.56, 0.91)):
        for y0, y1 in ((0.36, 0.6), (0.67, 0.92)):
            fill_box(draw, (x0 * width, y0 * height, x1 * width, y1 * height), toned(wood, 0.72))
            fill_box(draw, (x0 * width + u / 2, y0 * height + u / 2, x1 * width, y1 * height), toned(wood, 1.25))
    fill_box(draw, (width / 2 - u / 4, light, width / 2 + u / 4, height), toned(wood, 0.5))
    fill_box(draw, (width / 2 + u / 2, 0.62 * height, width / 2 + 1.3 * u, 0.65 * height), (230, 190, 90))
    fill_box(draw, (0, 0, width, 1.5 * u), (*SHADE, 120))
    canvas.photo.paste(door, box[:2], mask_of(part, box))
    fill_box(canvas.draw, (box[0] - 2 * u, box[3] - u, box[2] + 2 * u, box[3] + u), (196, 190, 182))


def _shop(canvas: Canvas, part: Part) -> None:
    """Paint a sign, a striped awning, and a lit window over a low panel."""
    (left, top, right, bottom), u, draw = pixels_of(part, canvas.side), canvas.unit, canvas.draw
    width, height = right - left, bottom - top
    finish = FINISHES[part.wall]
    sign, base = round(top + 0.16 * height), round(bottom - 0.16 * height)
    canvas.photo.paste(gradient((width, base - sign), (120, 92, 60), (252, 214, 148)), (left, sign))
    for x in (0.16, 0.43, 0.7):
        fill_box(draw, (left + x * width, base - 0.2 * height, left + (x + 0.14) * width, base), (92, 66, 60, 150))
    for x in (0, width / 2 - u / 2, width - u):
        fill_box(draw, (left + x, sign, left + x + u, base), toned(finish.door, 0.8))
    fill_box(draw, (left, base, right, bottom), finish.door)
    fill_box(draw, (left + u, base + u, right - u, bottom - u), toned(finish.door, 1.3))
    fill_box(draw, (left, top, right, sign), toned(finish.awning, 0.6))
    for x in np.arange(left + 0.2 * width, left + 0.8 * width, 1.6 * u):
        fill_box(draw, (x, top + 0.05 * height, x + u, sign - 0.05 * height), (244, 214, 140))
    _awning(canvas, part, sign, round(top + 0.42 * height))


def _awning(canvas: Canvas, part: Part, top: int, bottom: int) -> None:
    """Paint stripes that widen downwards to a unit beyond the part, and the shadow below."""
    (left, _, right, _), u = pixels_of(part, canvas.side), canvas.unit
    stripes = max(3, round((right - left) / (2.5 * u)))
    upper, lower = np.linspace(left, right, stripes + 1), np.linspace(left - u, right + u, stripes + 1)
    for index in range(stripes):
        fill = FINISHES[part.wall].awning if index % 2 == 0 else (246, 242, 234)
        corners = [(upper[index], top), (upper[index + 1], top), (lower[index + 1], bottom), (lower[index], bottom)]
        canvas.draw.polygon(corners, fill=fill)
    cast_shadow(canvas, (left - u, top, right + u, top + 3 * u), 0.3)
    cast_shadow(canvas, (left - u, bottom, right + u, bottom + 6 * u), 0.6)


def _shutter(canvas: Canvas, part: Part) -> None:
    (left, top, right, bottom), u = pixels_of(part, canvas.side), canvas.unit
    colour = FINISHES[part.wall].door
    fill_box(canvas.draw, (left, top, right, bottom), colour)
    step = max(2, round(1.6 * u))
    for y in range(round(top + u), round(bottom - u), step):
        fill_box(canvas.draw, (left + u / 2, y, right - u / 2, y + step / 2), toned(colour, 1.4))
    fill_box(canvas.draw, (right, top + u, right + u, bottom + u / 2), (*SHADE, 90))


def _ledge(canvas: Canvas, part: Part) -> None:
    """Paint a sill or a lintel."""
    box, u = pixels_of(part, canvas.side), canvas.unit
    left, top, right, bottom = box
    trim = FINISHES[part.wall].trim
    canvas.photo.paste(toned(trim, 0.96), box[:2], mask_of(part, box))
    if part.outline is SQUARE:
        fill_box(canvas.draw, (left, top, right, top + u / 2), toned(trim, 1.1))
        fill_box(canvas.draw, (left, bottom - u / 2, right, bottom), toned(trim, 0.75))
    cast_shadow(canvas, (left + u / 2, bottom, right + u / 2, bottom + 2 * u), 0.4)


def _deco(canvas: Canvas, part: Part) -> None:
    """Paint carved stone: a balustrade along the top of a wall, or an ornament over a window."""
    _ledge(canvas, part)
    (left, top, right, bottom), u = pixels_of(part, canvas.side), canvas.unit
    colour = toned(FINISHES[part.wall].trim, 0.66)
    for x in np.arange(left + u, right - u, 3 * u):
        fill_box(canvas.draw, (x, top + (bottom - top) * 0.35, x + 1.2 * u, bottom - u), colour)


def _cornice(canvas: Canvas, part: Part) -> None:
    (left, top, right, bottom), u = pixels_of(part, canvas.side), canvas.unit
    trim, height = FINISHES[part.wall].trim, bottom - top
    fill_box(canvas.draw, (left, top, right, bottom), toned(trim, 0.94))
    fill_box(canvas.draw, (left, top, right, top + 0.3 * height), toned(trim, 1.08))
    fill_box(canvas.draw, (left, top + 0.3 * height, right, top + 0.3 * height + u / 2), toned(trim, 0.7))
    if height > 2.5 * u:
        for x in np.arange(left, right, 2.4 * u):
            fill_box(canvas.draw, (x, top + 0.55 * height, x + 1.2 * u, bottom), toned(trim, 0.72))
    cast_shadow(canvas, (left, bottom, right, bottom + max(2 * u, height)), 0.5)


def _pillar(canvas: Canvas, part: Part) -> None:
    (left, top, right, bottom), u = pixels_of(part, canvas.side), canvas.unit
    trim, flute = FINISHES[part.wall].trim, (right - left) / 5
    for index, tone in enumerate((1.06, 1.1, 1.0, 0.9, 0.76)):
        fill_box(canvas.draw, (left + index * flute, top, left + (index + 1) * flute, bottom), toned(trim, tone))
    for y in (top + 3.6 * u, bottom - 3 * u):
        fill_box(canvas.draw, (left - u / 2, y, right + u / 2, y + 1.6 * u), toned(trim, 1.05))
        cast_shadow(canvas, (left - u / 2, y + 1.6 * u, right + u / 2, y + 3 * u), 0.35)
    fill_box(canvas.draw, (right, top, right + u, bottom), (*SHADE, 70))


def _balcony(canvas: Canvas, part: Part) -> None:
    """Paint a slab, and iron railings in front of whatever is behind."""
    (left, top, right, bottom), u, draw = pixels_of(part, canvas.side), canvas.unit, canvas.draw
    slab, iron, trim = bottom - 1.8 * u, (34, 36, 44), FINISHES[part.wall].trim
    fill_box(draw, (left, top, right, slab), (*SHADE, 70))
    bars = max(3, round((right - left) / (1.5 * u)))
    for x in np.linspace(left, right - u / 2, bars + 1):
        fill_box(draw, (x, top, x + u / 2, slab), iron)
    fill_box(draw, (left - u / 2, top, right + u / 2, top + 0.8 * u), iron)
    fill_box(draw, (left - u, slab, right + u, bottom), toned(trim, 0.98))
    fill_box(draw, (left - u, bottom - u / 2, right + u, bottom), toned(trim, 0.7))
    cast_shadow(canvas, (left - u / 2, bottom, right + 1.5 * u, bottom + 4 * u), 0.55)


def _tree(canvas: Canvas, part: Part) -> None:
    """Paint a trunk, or a ball of leaves lit from the upper left."""
    (left, top, right, bottom), u, draw = pixels_of(part, canvas.side), canvas.unit, canvas.draw
    if part.outline is SQUARE:
        fill_box(draw, (left, top, right, bottom), (92, 70, 52))
        fill_box(draw, ((left + right) / 2, top, right, bottom), (62, 46, 36))
        return
    radius, leaf = (right - left) / 2, 1.3 * u
    draw.ellipse((left, top, right, bottom), fill=(46, 82, 40))
    spots = canvas.rng.uniform(-1, 1, (120, 2))
    for x, y in spots[(spots**2).sum(axis=1) < 0.85]:
        cx, cy = left + radius * (1 + x), top + radius * (1 + y)
        colour = toned((82, 130, 58), 0.85 - 0.35 * (x + y))
        draw.ellipse((cx - leaf, cy - leaf, cx + leaf, cy + leaf), fill=colour)


PAINTERS: Mapping[Label, Callable[[Canvas, Part], None]] = {
    **dict.fromkeys(MASONRY, _wall),
    Label.TILES: paste_texture,
    Label.SLATE: paste_texture,
    Label.PAVEMENT: _pavement,
    Label.TREE: _tree,
    Label.WINDOW: _window,
    Label.DOOR: _door,
    Label.SHOP: _shop,
    Label.SHUTTER: _shutter,
    Label.SILL: _ledge,
    Label.LINTEL: _ledge,
    Label.BALCONY: _balcony,
    Label.CORNICE: _cornice,
    Label.PILLAR: _pillar,
    Label.DECO: _deco,
}
