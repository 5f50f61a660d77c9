"""A model bundle from any URL."""

from __future__ import annotations

from gan_models import Bundle, load_bundle
from pipeline import storage
from pipeline.errors import UserError


def open_bundle(url: str, *, direction: str | None = None, ema: bool = True, discriminators: bool = False) -> Bundle:
    """The bundle at `url`, with the generator of one direction or with all; `ema`, `discriminators` as in load_bundle.

    Raises UserError where there is none, or what is there is no bundle.
    """
    if storage.stat_file(storage.join(url, "config.json")) is None:
        raise UserError(
            f"{url}: no model bundle there; it is the folder `bundle` of a training run, or what jobs.import wrote"
        )
    try:
        return load_bundle(
            lambda name: storage.read(storage.join(url, name)),
            generator=direction,
            ema=ema,
            discriminators=discriminators,
        )
    except ValueError as error:
        raise UserError(f"{url}: {error}") from error
