"""Configuration of `jobs.verify`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Options of `jobs.verify`."""

    input: str
    """Output of pack, translate or augment."""
    source: bool = True
    """Compare every key with the source, too, which must still exist."""
    repair: bool = False
    """Remove what is broken, and nothing else, so that the job's command makes it again; print what remains broken."""
    clean: bool = False
    """Remove leftovers of killed processes that are older than a day."""
