"""Access to model bundles at any URL."""

from __future__ import annotations

from gan_models import Bundle, load_bundle
from pipeline import storage
from pipeline.errors import UserError


def open_bundle(url: str, *, direction: str | None = None, ema: bool = True, discriminators: bool = False) -> Bundle:
    """Load the bundle at `url`, with the generator of one direction or of all.

    `ema` and `discriminators` are those of load_bundle. Raises UserError where nothing is there, or no bundle.
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
