"""Masks that follow their picture: turned with it, and resized without new values."""

from __future__ import annotations

import io

from PIL import Image

from pipeline.geometry.transforms import Move

_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
"""Modes that PNG holds as they are."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def moved_mask(data: bytes, move: Move) -> bytes:
    """Return an encoded mask after the move, as PNG with its values and palette; its own bytes where nothing moved.

    Raises ValueError where it is no image, or not of its picture's size.
    """
    width, height = move.before if not move.turns or move.orientation < 5 else move.before[::-1]
    try:
        with Image.open(io.BytesIO(data)) as mask:
            if mask.size != (width, height):
                raise ValueError(
                    f"a mask of {mask.size[0]} × {mask.size[1]} pixels, and its picture has {width} × {height}"
                )
            if move.is_none:
                return data
            if mask.mode not in _MODES:
                raise ValueError(f"a mask of mode {mask.mode}, which PNG cannot hold without loss")
            mask.load()
            turned = mask.transpose(_TURNS[move.orientation]) if move.turns else mask
            turned = turned if turned.size == move.after else turned.resize(move.after, Image.Resampling.NEAREST)
            if mask.mode == "P":
                turned.putpalette(mask.getpalette() or [])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a mask that is no image: {error}") from error
    written = io.BytesIO()
    turned.save(written, "PNG")
    return written.getvalue()
