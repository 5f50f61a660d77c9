"""Faults of an output and their remedies, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Defect of an output."""

    name: str
    """Name of the object at fault, relative to the output."""
    what: str
    """Description of the fault: the rest of a sentence that begins with the name."""
    remove: tuple[str, ...] = ()
    """Names of the objects to remove, so that the job's next run makes all of it again."""
    unit: str = ""
    """Unit that is then made again from its source; empty where there is none."""
    of_source: bool = False
    """True where the fault lies in the source alone."""
    remedy: str = ""
    """Remedy in words; empty where it is the usual one: --repair, and then the job's command."""

    def __str__(self) -> str:
        return f"{self.name} {self.what}"

    @property
    def mend(self) -> str:
        """Return the remedy in a few words."""
        return self.remedy or "--repair removes it, and the job's command then makes it anew"


def rerun(name: str, what: str) -> Fault:
    """Return a fault that the job's next run mends by itself."""
    return Fault(name=name, what=what, remedy="run the job's command again")
