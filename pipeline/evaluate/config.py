"""Configuration of `jobs.evaluate`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Inputs and output of `jobs.evaluate`."""

    input: str
    """Translated store whose rows still hold their target."""
    output: str
    """Prefix for report.html, contact_sheet.png and scores.json."""
    target_column: str = ""
    """Column of the target image; by default `image_b`, else `image_a`."""
    train: str = ""
    """Training store whose mean image is a baseline."""
    bundle: str = ""
    """Model bundle whose generator, untrained, is a baseline; needs source_image (--keep_source)."""
    rows: int = 12
    """Number of rows in the contact sheet."""
