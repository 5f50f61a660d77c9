"""Contact sheet: rows of images under column titles, as one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from math import ceil, log

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import printable
from pipeline.images.basis import raster
from pipeline.report.content import shorten

BACKGROUND = (250, 250, 248)
INK = (32, 34, 38)
MUTED = (118, 122, 128)
RULE = (222, 222, 218)
CELL = 192
"""Pixels of the longer side of an image on the sheet."""
ASPECT = 1.5
"""Ratio of width to height that the layout approaches as closely as it can."""

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True, kw_only=True)
class SheetLayout:
    """Positions on a sheet, in pixels. Rows run down the first group, then down the next."""

    columns: int
    groups: int
    rows_in_group: int
    cell: int
    """Width of an image's cell."""
    picture_height: int
    caption_height: int
    title_height: int
    header_height: int
    gap: int
    """Gap between cells; the gap between groups, and the margin, are four times as wide."""

    @property
    def margin(self) -> int:
        return 4 * self.gap

    @property
    def group_width(self) -> int:
        return self.columns * (self.cell + self.gap) - self.gap

    @property
    def row_height(self) -> int:
        return self.picture_height + self.caption_height + self.gap

    @property
    def size(self) -> tuple[int, int]:
        width = self.groups * (self.group_width + self.margin) + self.margin
        return width, self.body_top + self.rows_in_group * self.row_height - self.gap + self.margin

    @property
    def body_top(self) -> int:
        return self.margin + self.title_height + self.header_height

    def group_left(self, group: int) -> int:
        return self.margin + group * (self.group_width + self.margin)

    def corner(self, row: int) -> tuple[int, int]:
        """Return left and top of a row's first cell."""
        group, place = divmod(row, self.rows_in_group)
        return self.group_left(group), self.body_top + place * self.row_height


def contact_sheet(
    columns: Sequence[str],
    rows: Sequence[Sequence[np.ndarray]],
    *,
    captions: Sequence[str] | None = None,
    cell: int = CELL,
    title: str | None = None,
) -> bytes:
    """Draw rows of images, each row under its caption, in side-by-side groups that make the PNG landscape.

    An image is uint8 or uint16, [H, W] or [H, W, C]; of more than three channels the first three are shown, of two the
    first. Each is scaled to fit a cell `cell` pixels wide, with its aspect kept. A caption that is too long loses its
    middle. Without rows the sheet says so. Whoever has many large images gives them `fitted`, one after the other.
    """
    _check(columns, rows, captions, cell)
    pictures_of = [[_fit(_rgb_image(picture), cell) for picture in row] for row in rows]
    small, medium, large = (ImageFont.load_default(max(8, round(cell * share))) for share in (0.066, 0.086, 0.12))
    column = SheetLayout(
        columns=len(columns),
        groups=1,
        rows_in_group=max(1, len(rows)),
        cell=cell,
        picture_height=max((picture.height for row in pictures_of for picture in row), default=cell // 3),
        caption_height=_line_height(small) if captions is not None else 0,
        title_height=2 * _line_height(large) if title is not None else 0,
        header_height=2 * _line_height(medium),
        gap=max(2, round(cell * 0.035)),
    )
    layout = landscape(column, len(rows))
    sheet = Image.new("RGB", layout.size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title is not None:
        width = layout.size[0] - 2 * layout.margin
        draw.text((layout.margin, layout.margin), fit_text(title, large, width), INK, large)
    _draw_headers(draw, layout, columns, medium)
    for index, pictures in enumerate(pictures_of):
        _paste_row(sheet, layout, index, pictures)
        if captions is not None:
            left, top = layout.corner(index)
            text = fit_text(captions[index], small, layout.group_width)
            draw.text((left, top + layout.picture_height + layout.caption_height * 0.15), text, MUTED, small)
    if not rows:
        draw.text(layout.corner(0), "no pictures", MUTED, medium)
    return _png(sheet)


def fitted(picture: np.ndarray, cell: int = CELL) -> np.ndarray:
    """Return an image, as `contact_sheet` takes it, at the size that it has on the sheet, uint8 [H, W, 3]."""
    scale = cell / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    if picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
        return raster.resized(picture, width, height, Image.Resampling.LANCZOS)
    return np.asarray(_fit(_rgb_image(picture), cell))


def _check(
    columns: Sequence[str], rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str] | None, cell: int
) -> None:
    if not columns:
        raise ValueError("a contact sheet needs at least one column")
    if cell < 16:
        raise ValueError(f"cell is {cell}: a picture's place needs at least 16 pixels")
    for index, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"row {index} has {len(row)} pictures for {len(columns)} columns: {', '.join(columns)}")
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"{len(captions)} captions for {len(rows)} rows")


def landscape(layout: SheetLayout, rows: int) -> SheetLayout:
    """Return the layout with its rows in as many groups as bring it nearest to `ASPECT`; no group is empty."""

    def in_groups(groups: int) -> SheetLayout:
        rows_in_group = ceil(rows / groups)
        return replace(layout, groups=ceil(rows / rows_in_group), rows_in_group=rows_in_group)

    candidates = [in_groups(groups) for groups in range(1, rows + 1)]
    return min(candidates, key=lambda layout: abs(log(layout.size[0] / layout.size[1] / ASPECT)), default=layout)


def fit_text(text: str, font: Font, width: float) -> str:
    """Return one line of text that is no wider than `width`, with an ellipsis for its middle where necessary."""
    text = printable(text)
    if len(text) <= width and font.getlength(text) <= width:
        return text
    # More letters than pixels cannot fit, and measuring a very long key would take long.
    kept, refused = 0, min(len(text), int(width) + 1)
    while refused - kept > 1:
        middle = (kept + refused) // 2
        kept, refused = (middle, refused) if font.getlength(shorten(text, middle)) <= width else (kept, middle)
    return shorten(text, kept)


def _rgb_image(picture: np.ndarray) -> Image.Image:
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3) or picture.size == 0:
        shape = "×".join(map(str, picture.shape))
        raise ValueError(
            f"a picture of {shape} {picture.dtype} cannot be shown: it must be [H, W] or [H, W, C], 8 or 16 bit"
        )
    return Image.fromarray(np.ascontiguousarray(raster.shown(picture if picture.ndim == 3 else picture[..., None])))


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _draw_headers(draw: ImageDraw.ImageDraw, layout: SheetLayout, columns: Sequence[str], font: Font) -> None:
    line = layout.body_top - layout.gap
    for group in range(layout.groups):
        left = layout.group_left(group)
        draw.line((left, line, left + layout.group_width - 1, line), RULE)
        for index, column in enumerate(columns):
            middle = left + index * (layout.cell + layout.gap) + layout.cell / 2
            text = fit_text(column, font, layout.cell)
            draw.text((middle, line - 1.5 * layout.gap), text, INK, font, anchor="ms")


def _paste_row(sheet: Image.Image, layout: SheetLayout, row: int, pictures: Sequence[Image.Image]) -> None:
    left, top = layout.corner(row)
    for index, picture in enumerate(pictures):
        x = left + index * (layout.cell + layout.gap) + (layout.cell - picture.width) // 2
        sheet.paste(picture, (x, top + (layout.picture_height - picture.height) // 2))


def _line_height(font: Font) -> int:
    top, bottom = font.getbbox("Ágjp")[1::2]
    return ceil((bottom - top) * 1.25)


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
