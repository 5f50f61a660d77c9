"""What is wrong with an output, and what can be done about it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is not as it has to be."""

    name: str
    """The object at fault, relative to the output."""
    what: str
    """What is wrong with it: the rest of a sentence that begins with its name."""
    remove: tuple[str, ...] = ()
    """Names of the objects without which the job's next run makes all of it anew."""
    unit: str = ""
    """The unit that has to be made again for that, from its source."""
    of_source: bool = False
    """Whether it lies in the source alone."""
    remedy: str = ""
    """What a person has to do, where removing nothing helps."""

    def __str__(self) -> str:
        return f"{self.name} {self.what}"

    @property
    def mend(self) -> str:
        """What to do about it, in a few words."""
        return self.remedy or "--repair removes it, and the job's command then makes it anew"


def rerun(name: str, what: str) -> Fault:
    """A fault that the job's next run mends by itself."""
    return Fault(name=name, what=what, remedy="run the job's command again")
