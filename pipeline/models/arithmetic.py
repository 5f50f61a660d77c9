"""Arithmetic of a network, as plain data: the record of a job or a run holds it. Does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

TrainedTrunk = Literal["direct", "winograd"]
Trunk = Literal[TrainedTrunk, "winograd_c"]
"""Way in which a ResNet's residual blocks convolve: winograd_c is Winograd's filtering in compiled C, which does not
train."""
_TRUNKS = {"direct": "", "winograd": ", Winograd", "winograd_c": ", Winograd in C"}

TIE = 0.05
"""Share by which a form must be faster than a simpler one; less may be chance."""

Size = tuple[int, int]
"""Height and width in pixels."""

AT_ONCE = {"cuda": 3, "cpu": 1}
"""Units that an actor works on at once, by its device: beside a GPU one comes in and one goes out while another is
computed. On a CPU they would only take the cores from each other."""

THREAD_PIXELS = 1 << 18
"""Pixels of the largest image that one thread translates, where nothing else is recorded: 512². Each thread needs the
memory of a whole image."""

_LEAST_ROWS = 32
"""Rows of a tile, however wide the picture: tiles of fewer would mostly compute their neighbours' rows again."""

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Form:
    """Way to compute one network, of those among which a machine has its fastest."""

    precision: str
    trunk: Trunk = "direct"
    compile: bool = False

    def __str__(self) -> str:
        how = "" if self.trunk == "winograd_c" else ", compiled" if self.compile else ", eager"
        return f"{self.precision}{_TRUNKS[self.trunk]}{how}"


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Settings that decide, together with the weights, which pixels come out. Fixed before the first unit."""

    device: str
    precision: str
    threads: int | None
    """Number of CPU threads; None on a GPU. It decides the order of some sums, and so a last bit, of an image that all
    of them translate together."""
    trunk: Trunk
    batch: int
    """Images that go through the generator at once; a smaller group is padded, so that the shape never changes."""
    batch_pixels: int | None = None
    """Pixels that go through at once at most, so that larger images go in smaller batches; None for no bound."""
    thread_pixels: int | None = None
    """Pixels of the largest image that is translated by one thread, while the others translate others: none waits for
    another then. None where all threads translate each image together."""
    tile_pixels: int | None = None
    """Pixels of the largest picture that goes through the network whole; larger ones go in tiles of about a quarter
    of them. None where all go whole."""
    compiled: Sequence[Size] = ()
    """Sizes, as the network takes them, for which there is compiled code. Images of all others are translated eagerly,
    so the size of an image decides."""

    def __post_init__(self) -> None:
        sizes = tuple((height, width) for height, width in self.compiled)  # a record has lists
        object.__setattr__(self, "compiled", sizes)

    def __str__(self) -> str:
        where = self.device if self.threads is None else f"{self.device} with {self.threads} thread(s)"
        sizes = ", ".join(f"{width} × {height}" for height, width in self.compiled)
        batch = f"batch {self.batch}"
        if self.batch_pixels is not None:
            batch = f"batches of {self.batch_pixels / 1e6:.1f} megapixels"
        if self.thread_pixels is not None and self.is_alone((1, 1)):
            where = f"{where}, each with its own image up to {self.thread_pixels / 1e6:.1f} megapixels"
        if self.tile_pixels is not None:
            where = f"{where}, in tiles above {self.tile_pixels / 1e6:.1f} megapixels"
        return f"{self.form}{f' for {sizes}' if sizes else ''}, {batch}, {where}"

    def at(self, size: Size) -> Arithmetic:
        """Return the same with the batch and the threads of images of this size for all sizes."""
        thread_pixels = sys.maxsize if self.is_alone(size) else None
        return replace(self, batch=self.batch_of(size), batch_pixels=None, thread_pixels=thread_pixels)

    def record(self) -> dict[str, Any]:
        """Return the fields as the record of a job holds them; without bounds of pixels that there are not, as they
        were before there were any."""
        bounds = ("batch_pixels", "thread_pixels", "tile_pixels")
        return {name: value for name, value in vars(self).items() if value is not None or name not in bounds}

    def batch_of(self, size: Size) -> int:
        """Return the number of images of this size that go through the generator at once."""
        if self.batch_pixels is None:
            return self.batch
        return max(1, min(self.batch, self.batch_pixels // (size[0] * size[1])))

    def is_alone(self, size: Size) -> bool:
        """Return True where an image of this size is translated by one thread, and others by the others.

        Batches of several images are for all threads together. Compiled code keeps Python's lock while it runs, so its
        images are translated one after the other.
        """
        if self.threads in (None, 1) or self.batch > 1 or self.thread_pixels is None or size in self.compiled:
            return False
        return size[0] * size[1] <= self.thread_pixels

    def is_tiled(self, size: Size) -> bool:
        """Return True where a picture of this size, as the network takes it, goes through it in tiles."""
        return self.tile_pixels is not None and size[0] * size[1] > self.tile_pixels and size not in self.compiled

    def tiles_of(self, size: Size) -> int:
        """Return the number of tiles, which are strips of rows, that a picture of this size is cut into."""
        rows = max(_LEAST_ROWS, (self.tile_pixels or 0) // 4 // size[1])
        return -(-size[0] // rows)

    def at_once(self, size: Size) -> int:
        """Return the number of images of this size that are translated at once."""
        return self.batch_of(size) * ((self.threads or 1) if self.is_alone(size) else 1)

    @property
    def form(self) -> Form:
        """Return the part of it that is measured."""
        return Form(precision=self.precision, trunk=self.trunk, compile=bool(self.compiled))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Measurement by which a form was chosen."""

    machine: str = ""
    """Line about the device that was measured."""
    side: int = 0
    """Side of the square images that it was measured with, in pixels."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds an image in each form, by the form in words; empty where there was no choice."""
    actors: int = 1
    """Number of processes that were to compute at once."""
    dense_rate: float = 0.0
    """Dense matrix products of the same device in the precision that was chosen, in FLOP/s; 0 where not measured."""

    def __str__(self) -> str:
        """Return all figures in one line, the fastest first."""
        found = sorted(self.seconds.items(), key=lambda each: each[1])
        each = "; ".join(f"{name} {_duration(seconds)}" for name, seconds in found)
        return f"{each} an image of {self.side}², on {self.machine}"

    def seconds_of(self, form: Form, pixels: float | None = None) -> float | None:
        """Return the seconds an image in this form, of so many pixels or of the size that was measured.

        A compiled form that was not measured takes a little less than the eager one, whose figure is returned. None
        where nothing was measured.
        """
        found = self.seconds.get(str(form)) or self.seconds.get(str(replace(form, compile=False)))
        return found if found is None or pixels is None else found * pixels / self.side**2

    def record(self) -> dict[str, Any]:
        """Return the fields as the record of a job or a run holds them; empty where nothing was measured."""
        fields = asdict(self) if self.seconds else {}
        return {name: value for name, value in fields.items() if value or name != "dense_rate"}


NOTHING_MEASURED = Figures()


def exact(device: str, *, batch: int) -> Arithmetic:
    """Return the arithmetic without shortcuts, in fp32; for what is measured or looked at, not for archives."""
    return Arithmetic(device=device, precision="fp32", threads=None, trunk="direct", batch=batch)


def fastest(seconds: Mapping[K, float]) -> K:
    """Return the fastest of the forms, which come simplest first; of those that nearly tie with it, the simplest."""
    least = min(seconds.values())
    return next(form for form, each in seconds.items() if each <= least * (1 + TIE))


def slowest_rank(of_ranks: Sequence[Mapping[K, float]]) -> dict[K, float]:
    """Return, for each form that every rank has measured, the seconds of the rank that takes longest."""
    common = [form for form in of_ranks[0] if all(form in each for each in of_ranks)]
    return {form: max(each[form] for each in of_ranks) for form in common}


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
