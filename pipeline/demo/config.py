"""Configuration of `jobs.demo`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demonstration learns from, and for how long."""

    data: str = ""
    """Folder of A|B pictures (photograph left, label map right); by default streets are drawn."""
    output: str = "runs/demo"
    """Where everything goes; the same command goes on from what is there."""
    pictures: int = 400
    """How many pairs are drawn."""
    size: int = 128
    """Side of the pictures that are learned, in pixels; a power of two."""
    steps: int = 900
    """Training steps, of four pairs each."""
    seed: int = 0
    """Seed of the drawing, the split and the training."""
