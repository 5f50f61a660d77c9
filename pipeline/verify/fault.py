"""Faults of an output, and their remedies, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is not as it has to be."""

    name: str
    """The object at fault, relative to the output."""
    what: str
    """Description of the fault: the rest of a sentence that begins with its name."""
    remove: tuple[str, ...] = ()
    """Names of the objects without which the job's next run makes all of it anew."""
    unit: str = ""
    """The unit that has to be made again for that, from its source."""
    of_source: bool = False
    """True where the fault lies in the source alone."""
    remedy: str = ""
    """Remedy for a person, where removing nothing helps."""

    def __str__(self) -> str:
        return f"{self.name} {self.what}"

    @property
    def mend(self) -> str:
        """Return the remedy in a few words."""
        return self.remedy or "--repair removes it, and the job's command then makes it anew"


def rerun(name: str, what: str) -> Fault:
    """A fault that the job's next run mends by itself."""
    return Fault(name=name, what=what, remedy="run the job's command again")
