"""Stages that translate the same decoded images by several translators, each of them one model or a chain of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline import images
from pipeline.engine.records.account import Batch
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.scores.judges import Judged
from pipeline.translation.frames import Frames, frames_of
from pipeline.translation.options import SizePolicy
from pipeline.translation.stages import Decode, Translate

Step = Callable[[Batch], Batch]


@dataclass(frozen=True, kw_only=True)
class Link:
    """One model of a chain, before it is loaded."""

    url: str
    direction: str
    sha256: str
    arithmetic: Arithmetic
    figures: Figures
    side: int | None
    """Side, in pixels, that images are resized to before they go through it; None for their own size."""
    judged: Judged
    takes: images.PixelType = images.RGB
    """Type of the pixels that it translates; what the one before gives."""
    gives: images.PixelType = images.RGB


@dataclass(frozen=True)
class DecodeOnce(Decode):
    """Stage that decodes images for all translators."""

    later: int = 0
    """Bytes, at least, of what a translator makes of a decoded image before it is translated."""

    def sizes(self, batch: Batch) -> list[int]:
        """Return the bytes of each row's decoded image, or of what is made of it later, whichever is more."""
        return [max(size, self.later) for size in super().sizes(batch)]


class Chain:
    """Models that images go through one after the other, as if each read what the one before wrote without loss."""

    def __init__(self, links: Sequence[Link], size: SizePolicy, decoded: int | None) -> None:
        """Load the models. `decoded` is the side that the images have been resized to when they come, if any.

        Raises what `Translate` raises.
        """
        self._size, self._decoded = size, decoded
        self._models = [(link.side, link.takes, _loaded(link, counts_rows=link is links[-1])) for link in links]

    def __call__(self, batch: Batch) -> Batch:
        side = self._decoded
        for i, (wanted, takes, translate) in enumerate(self._models):
            if i and self._size == "original":  # the size that a file between the two would have
                names = ("source_width", "source_height")
                sizes = list(zip(*(batch.rows[name].to_pylist() for name in names), strict=True))
                batch = resized(batch, sizes, takes)
                side = None
            if wanted is not None and wanted != side:
                batch = resized(batch, [(wanted, wanted)] * len(batch.rows), takes)
            batch, side = translate(batch), wanted
        return batch


def _loaded(link: Link, *, counts_rows: bool) -> Translate:
    """Return the stage of one model; rows count as done once they have gone through the last one."""
    stage = Translate(link.url, link.direction, link.arithmetic, link.figures, link.judged, link.sha256)
    stage.translator = replace(stage.translator, counts_rows=counts_rows)
    return stage


def resized(batch: Batch, sizes: Sequence[tuple[int, int]], pixel_type: images.PixelType = images.RGB) -> Batch:
    """Return a batch whose decoded images, of this type, have these widths and heights, one for each row."""
    made = Frames(sum(width * height for width, height in sizes) * pixel_type.bytes)
    for frame, (width, height) in zip(frames_of(batch, pixel_type), sizes, strict=True):
        images.resize(frame, width, height, made.place(pixel_type.shape(height, width), pixel_type.dtype))
    return made.of(batch)


class InTurn:
    """Stage that holds several translators, and runs one after the other over the same decoded images."""

    def __init__(self, translators: Mapping[str, Step]) -> None:
        """Take the translators by the part of the output that each makes."""
        self._translators = translators

    def __call__(self, batch: Batch) -> list[Batch]:
        """Return a batch for each unit that `batch` stands for, by the translator of its part."""
        units = (batch.unit, *batch.beside)
        return [self._translators[unit.part](replace(batch, unit=unit, beside=())) for unit in units]


@dataclass(frozen=True)
class EachPart:
    """Stage that lays out the rows of each part in its own way."""

    steps: Mapping[str, Step]
    """Stages by part."""

    def __call__(self, batch: Batch) -> Batch:
        return self.steps[batch.unit.part](batch)
