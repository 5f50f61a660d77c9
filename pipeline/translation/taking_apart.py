"""How the stages of a translation take apart a unit that ends their processes: what runs there, and a good picture."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from pipeline.engine.publishing.apart import SIDE, Apart, good_picture, with_good_key, with_good_picture
from pipeline.engine.records.account import Batch, Made, batches_of, joined
from pipeline.translation.frames import Frames, joined_frames, without_frames
from pipeline.translation.stages import SAID, Decode, Encode


def aparts(
    decode: Decode, translate: Callable[[], Callable[[Batch], Made]], encode: Encode, lay_out: Callable[[Batch], Batch]
) -> tuple[Apart, Apart, Apart]:
    """Return how the three stages of a translation take a unit apart; `translate` makes the second one, and `lay_out`
    is the last."""
    return decode_apart(decode), translate_apart(translate, decode), encode_apart(encode, lay_out, decode)


def decode_apart(decode: Decode) -> Apart:
    """Return how a unit is decoded whose images end the process: each is decoded, and the unit travels encoded."""
    return Apart(
        make=lambda: functools.partial(_proved, decode),
        control=functools.partial(with_good_picture, columns=(decode.column,), pixel_type=decode.takes),
        join=joined,
        read=decode.read,
    )


def check_apart(decode: Decode) -> Apart:
    """Return how the images of a unit are checked that end the process."""
    return replace(decode_apart(decode), make=lambda: decode.prove)


def translate_apart(make: Callable[[], Callable[[Batch], Made]], decode: Decode) -> Apart:
    """Return how a unit is translated whose images end the process; `make` makes the stage."""
    return Apart(
        make=lambda: functools.partial(_only, make()),
        control=functools.partial(_good_frame, decode=decode),
        join=joined_frames,
    )


def encode_apart(encode: Encode, lay_out: Callable[[Batch], Batch], decode: Decode) -> Apart:
    """Return how a unit is encoded whose images end the process; `lay_out` is the stage, for encoded images."""
    return Apart(
        make=lambda: functools.partial(_encoded, encode),
        control=functools.partial(_good_frame, decode=decode),
        join=lambda whole, parts: lay_out(joined(whole, parts)),
    )


def _proved(decode: Decode, batch: Batch) -> Batch:
    """Return the rows that can be decoded, encoded still: they are decoded, and noted of, once more."""
    proved = decode.prove(batch)
    return replace(proved, rows=proved.rows.drop_columns(list(SAID)), notes=())


def _only(stage: Callable[[Batch], Made], batch: Batch) -> Batch:
    """Return what a stage makes of one unit."""
    (made,) = batches_of(stage(batch))
    return made


def _encoded(encode: Encode, batch: Batch) -> Batch:
    return batch if batch.pixels is None else encode.encode(batch)


def _good_frame(batch: Batch, decode: Decode) -> Batch:
    """Return the first row alone, its image a good one in the form of the batch: decoded or encoded."""
    if batch.pixels is None:
        good = with_good_picture(batch, [decode.column], decode.takes)
        return replace(good, rows=_without_geometry(good.rows, decode))
    side = decode.size or SIDE
    rows = without_frames(Batch(batch.unit, with_good_key(batch.rows.slice(0, 1))))
    for name, kind in SAID.items():
        if name != "exif_orientation":  # its size, which some sizes of the output follow
            at = rows.rows.column_names.index(name)
            rows = replace(rows, rows=rows.rows.set_column(at, name, pa.array([side], kind)))
    frames = Frames(side * side * decode.takes.bytes)
    frames.add(good_picture(side, side, decode.takes))
    return frames.of(rows)


def _without_geometry(rows: pa.Table, decode: Decode) -> pa.Table:
    """Return rows without the places of what was in another picture."""
    for name in {declared.partition(".")[0] for declared in decode.geometry.columns}:
        at = rows.column_names.index(name)
        rows = rows.set_column(at, rows.field(at), pa.nulls(len(rows), rows.field(at).type))
    return rows
