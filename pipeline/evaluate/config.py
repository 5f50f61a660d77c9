"""Configuration of `jobs.evaluate`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Inputs of `jobs.evaluate`, and the place of its report."""

    input: str
    """Translated store whose rows still have their target."""
    output: str
    """Prefix for report.html, contact_sheet.png and scores.json."""
    target_column: str = ""
    """Column of the true image; by default `image_b` or `image_a`, whichever is there."""
    train: str = ""
    """Training store, for the baseline of its mean image."""
    bundle: str = ""
    """Model bundle, for the baseline of the same generator before any training; needs source_image (--keep_source)."""
    rows: int = 12
    """Rows of the contact sheet."""
