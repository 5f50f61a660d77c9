"""Configuration of `jobs.verify`."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import check_range


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
    keep_versions: int | None = None
    """Number of newest versions of each slot, or of the whole output, whose data is kept. The data of older ones is
    listed, and deleted with --clean where all that is read is whole; plans and records stay."""

    def __post_init__(self) -> None:
        check_range("keep_versions", self.keep_versions, least=1)
