"""Configuration of `jobs.verify`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Options of `jobs.verify`."""

    input: str
    """Output of a job: what pack or translate wrote."""
    source: bool = True
    """Also compare every key with the source it was made from, which must still be there."""
    repair: bool = False
    """Remove what is broken, and nothing that is sound, so that the job's command makes it again; say what is left."""
    clean: bool = False
    """Remove what kills left behind, where it is older than a day."""
