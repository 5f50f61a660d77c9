"""Configuration of `jobs.demo`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Data of the demonstration, and its length."""

    data: str = ""
    """Folder of A|B pictures (photograph left, label map right); by default streets are drawn."""
    output: str = "runs/demo"
    """Folder for everything; the same command continues from what it holds."""
    pictures: int = 400
    """Number of pairs to draw."""
    size: int = 128
    """Side of the pictures that are learned, in pixels; a power of two."""
    steps: int = 900
    """Training steps, of four pairs each."""
    seed: int = 0
    """Seed of the drawing, the split and the training."""
