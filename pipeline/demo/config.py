"""Configuration of `jobs.demo`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Data and length of the demonstration."""

    data: str = ""
    """Folder of A|B images (photograph left, label map right); by default streets are drawn."""
    output: str = "runs/demo"
    """Folder for all outputs; the same command resumes from what it holds."""
    pictures: int = 400
    """Number of pairs to draw."""
    size: int = 128
    """Side of the training images in pixels; a power of two."""
    steps: int = 900
    """Number of training steps, of four pairs each."""
    seed: int = 0
    """Seed of the drawing, the split and the training."""
