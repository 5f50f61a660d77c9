"""Options of the benchmark of scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import check_range


@dataclass(frozen=True, kw_only=True)
class ScoresBenchmarkConfig:
    """Options of `jobs.benchmark scores`, which scores single images and sets as `jobs.evaluate` does."""

    pairs: int = 12
    """Number of images, and of their targets, that are scored in one repetition."""
    side: int = 256
    """Pixels of their sides."""
    sample: int = 10_000
    """Images of each set."""
    features: int = 2048
    """Features of each image: as many as FID's Inception gives."""
    repeats: int = 3
    """Number of times that each is measured; medians are printed."""
    minutes: float = 10.0
    """Minutes in which to end. What is not done by then is ended, and shown."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_scores.json."""
    quick: bool = False
    """Take few and small images: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        for name, least in (("pairs", 1), ("side", 11), ("sample", 16), ("features", 1), ("repeats", 1)):
            check_range(name, getattr(self, name), least=least)
        check_range("minutes", self.minutes, above=0)

    def resolved(self) -> ScoresBenchmarkConfig:
        """Return the options, small where `quick` is set."""
        return replace(self, pairs=2, side=64, sample=64, features=32, repeats=1) if self.quick else self
