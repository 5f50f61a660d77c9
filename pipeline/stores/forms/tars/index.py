"""Samples of a tar: files that follow each other and share a name up to the first dot of its last part.

This is WebDataset's rule. Folders in a name belong to the key, and the rest, in small letters, is the *ending* that
tells the files of a sample apart.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.stores.forms.tars.headers import BLOCK, Heard, Kind, Read, members

NO_ENDING = "members of tars without an ending, so of no sample"
HIDDEN = "members of tars whose name begins with a dot"


class Named(NamedTuple):
    """Name of a file in a tar, taken apart."""

    key: str
    ending: str


@dataclass(frozen=True, eq=False)
class Index:
    """Samples of one tar, in columns: some forty bytes for each of its files."""

    keys: pa.StringArray
    """Key of each sample, [samples], as it stands in the names."""
    first: np.ndarray
    """Position of each sample's first file, and the number of all files, [samples + 1] int64."""
    ending: np.ndarray
    """Number of each file's ending, [files] int32."""
    offset: np.ndarray
    """Position of each file's bytes, [files] int64."""
    size: np.ndarray
    """Bytes of each file, [files] int64."""
    endings: tuple[str, ...]
    """Endings in the order in which they first occur, as they stand."""
    heard: Heard
    passed_over: Mapping[str, tuple[int, str]]
    """Count and first name of the members that are of no sample, by reason. Folders do not count."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def held_bytes(self) -> int:
        """Return about how much memory it takes."""
        return int(self.keys.nbytes + self.first.nbytes + 20 * len(self.offset))

    @property
    def sizes(self) -> np.ndarray:
        """Return the bytes of each sample in the tar, headers included, [samples] int64."""
        each = BLOCK + -(-self.size // BLOCK) * BLOCK
        return np.add.reduceat(each, self.first[:-1]) if len(self) else np.zeros(0, np.int64)

    def several(self, plain: tuple[str, ...]) -> int | None:
        """Return the number of a sample that has several files with endings among `plain`; None where none has."""
        wanted = np.isin(self.ending, [i for i, ending in enumerate(self.endings) if ending.lower() in plain])
        counts = np.add.reduceat(wanted.astype(np.int64), self.first[:-1]) if len(self) else np.zeros(0, np.int64)
        return int(np.argmax(counts > 1)) if (counts > 1).any() else None


def named(name: str) -> Named | None:
    """Return key and ending of a member of this name; None where it has none."""
    name = name.removeprefix("./")
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    return Named(f"{folder}{slash}{stem}", ending) if stem and dot and ending else None


def index_of(read: Read, size: int) -> Index:
    """Return the samples of a tar of `size` bytes; only its headers are read. Raises TarError where it is damaged.

    A file whose sample has one of its ending already begins another sample of the same key.
    """
    heard, passed = Heard(), dict[str, tuple[int, str]]()
    keys, first, endings = list[str](), array("q"), dict[str, int]()
    ending, offset, sizes = array("i"), array("q"), array("q")
    key, seen = "", set[str]()
    for member in members(read, size, heard):
        found = named(member.name) if member.kind is Kind.FILE else None
        if found is None:
            if member.kind is not Kind.FOLDER:
                count, example = passed.get(reason := _reason(member.kind, member.name), (0, member.name))
                passed[reason] = count + 1, example
            continue
        folded = found.ending.lower()
        if not keys or found.key != key or folded in seen:
            key, seen = found.key, set()
            keys.append(key)
            first.append(len(ending))
        seen.add(folded)
        ending.append(endings.setdefault(found.ending, len(endings)))
        offset.append(member.offset)
        sizes.append(member.size)
    first.append(len(ending))
    return Index(
        keys=pa.array(keys, pa.string()),
        first=np.array(first, np.int64),
        ending=np.array(ending, np.int32),
        offset=np.array(offset, np.int64),
        size=np.array(sizes, np.int64),
        endings=tuple(endings),
        heard=heard,
        passed_over=passed,
    )


def _reason(kind: Kind, name: str) -> str:
    if kind is Kind.FILE:
        return HIDDEN if name.rpartition("/")[2].startswith(".") else NO_ENDING
    return f"{kind.value} in tars"


def joined_counts(found: list[Mapping[str, tuple[int, str]]]) -> dict[str, tuple[int, str]]:
    """Add up what several tars have passed over."""
    counts = Counter[str]()
    examples = dict[str, str]()
    for each in found:
        for reason, (count, example) in each.items():
            counts[reason] += count
            examples.setdefault(reason, example)
    return {reason: (count, examples[reason]) for reason, count in counts.items()}
