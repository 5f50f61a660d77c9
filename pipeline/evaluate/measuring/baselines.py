"""Baselines without a trained model: the mean of the training images, and the generator before training."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.evaluate.measuring.scoring import Scoring
from pipeline.scores.metrics import mean_image
from pipeline.stores import Store, image_columns, read_rows
from pipeline.stores.selection import Selection

log = logging.getLogger("transdomain")

MOST = 2000
"""Training images, drawn by a hash of their keys, whose mean is taken."""


def with_networks(scoring: Scoring, url: str, direction: str) -> Scoring:
    """Return a scoring with what the networks of a bundle can be used for.

    Raises UserError where it is no bundle, or lacks the direction.
    """
    from gan_models import Description
    from gan_models.config import OPPOSITE
    from pipeline.models.bundles import describe, pixel_types

    described = describe(url)
    if not isinstance(described, Description):
        raise UserError(
            f"{url}: is a program, without the architecture and the way back that --bundle is for; give a bundle"
        )
    direction = direction or described.directions[0]
    if direction not in described.directions:
        raise UserError(f"{url}: has no generator {direction}; it has {', '.join(described.directions)}")
    opposite = {**OPPOSITE}[direction]  # type: ignore[index]
    cycle = described.files[opposite].sha256 if opposite in described.directions else ""
    takes, gives = pixel_types(described.generator_configs[direction])
    return replace(
        scoring,
        bundle=url,
        direction=direction,
        cycle=cycle,
        identity=bool(scoring.target) and takes == gives,
        untrained=True,
    )


def mean_of_training(
    train: Store, column: str, beside: tuple[Store, str], root: str, reading: images.Reading, *, write: bool
) -> str:
    """Return the URL of the mean training image, an array, and make it where it is not there and `write` says so.

    It has the size of the first image of the store and the column `beside`. Raises UserError where the training store
    has no such column, or no image that can be decoded.
    """
    if column not in image_columns(train.schema):
        raise UserError(
            f"{train.url}: no image column {column}, of which the mean is a baseline; it has "
            f"{', '.join(image_columns(train.schema)) or 'none'}; leave out --train"
        )
    width, height = _first_size(*beside)
    said = reading.recorded()
    about = hashlib.sha256(f"{column} {width} {height}{f' {said}' if said else ''}".encode())
    for entry in train.shards:
        about.update(f"\n{entry.name}\t{entry.version}".encode("utf-8", "surrogatepass"))
    place = storage.join(root, f"_transdomain/baselines/mean-{about.hexdigest()[:16]}.npy")
    if not write or storage.stat_file(place) is not None:
        return place
    bad = list[str]()
    try:
        mean = mean_image(images.resize(each, width, height) for each in _drawn(train, column, reading, bad))
    except ValueError as error:
        raise UserError(f"{train.url}: the mean training image cannot be made: {error}; leave out --train") from error
    if bad:
        log.warning("%s: %d images of %s are not in the mean, such as %s", train.url, len(bad), column, bad[0])
    buffer = io.BytesIO()
    np.save(buffer, mean, allow_pickle=False)
    storage.create(place, buffer.getvalue())
    return place


def _first_size(store: Store, column: str) -> tuple[int, int]:
    """Return width and height of the first image of a store whose header says them."""
    for piece in store.ranges:
        for cell in read_rows([piece], [column])[column].to_pylist():
            size = images.size_of((cell or {}).get("bytes") or b"")
            if min(size) > 0:
                return size
    raise UserError(f"{store.url}: holds no image to score")


def _drawn(store: Store, column: str, reading: images.Reading, bad: list[str]) -> Iterator[np.ndarray]:
    """Yield the training images, at most about MOST, as RGB; add what cannot be decoded to `bad`, by its key."""
    share = min(1.0, MOST / max(store.rows, 1))
    selection = Selection(0, 0.0, share, salt="mean")
    for piece in store.ranges:
        for row in read_rows([piece], [column], wants=selection.wants).to_pylist():
            try:
                yield images.decode_by(reading, images.encoded_in(row[column])).pixels
            except images.BadImage as error:
                bad.append(f"{row['key']} ({error.reason})")
