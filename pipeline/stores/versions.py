"""Versions of an output: which there are, and which one its readers are to see.

An output is itself version 1 of all that it holds. A later version of the whole output, or of some of its slots, is an
output of its own below `_versions/`. Its record is created before any work, its mark when it is whole. Readers see the
highest version of a slot that bears a mark. So the creation of one object switches them, two writers cannot undo each
other's switch, and nothing is renamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import DamagedError

FOLDER = "_versions/"
RECORDS = "_transdomain/versions/"
MARKS = "_transdomain/current/"
"""Folder of the marks of whole versions; each is a copy of the version's record."""

WHOLE = ""
"""Label that stands for an output without slots."""

_ROOT = re.compile(r"(.*)/_versions/(\d{6})")
_NAME = re.compile(r"(\d{6})\.json")


class Version(NamedTuple):
    """Record of a version after the first."""

    number: int
    labels: tuple[str, ...]
    """Slots that it is a version of, sorted; WHOLE alone where it is one of the whole output."""
    settings: str
    """Fingerprint of the settings that it was asked for with: its recipe without what each machine decides."""
    models: Mapping[str, str]
    """Sha256 of each model, by the name of its translator; without a name where there is one."""
    replaces: Mapping[str, int]
    """Version of each label that was current when this one began."""

    def __str__(self) -> str:
        """Return the version in words."""
        before = ", ".join(f"version {number}" for number in sorted(set(self.replaces.values())))
        models = ", ".join(f"{name} {sha256}".strip() for name, sha256 in sorted(self.models.items()))
        made = f"by {'model' if WHOLE in self.models else 'models'} {models}" if models else "without a model"
        return f"version {self.number}{of_slots(self.labels)} in place of {before}, made {made}"


def of_slots(labels: Collection[str]) -> str:
    """Return a few words about these labels; empty for a whole output."""
    named = sorted(filter(None, labels))
    return f" of slot{'s' if len(named) > 1 else ''} {', '.join(named)}" if named else ""


def encode_version(version: Version) -> bytes:
    """Encode the record of a version."""
    return json.dumps(version._asdict(), sort_keys=True, indent=1).encode()


def decode_version(data: bytes, url: str) -> Version:
    """Read the record of a version. Raises DamagedError, naming it, where it is damaged."""
    try:
        said: dict[str, Any] = json.loads(data)
        return Version(**said | {"labels": tuple(said["labels"])})
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{url} is damaged; put it back: record and mark of a version are equal") from error


def root_of(url: str, number: int) -> str:
    """Return the prefix of a version of the output at `url`; the first version is the output itself."""
    return url if number == 1 else f"{url}/{FOLDER}{number:06d}"


def record_url(url: str, number: int) -> str:
    """Return the URL of the record of a version of the output at `url`."""
    return f"{url}/{RECORDS}{number:06d}.json"


def mark_url(url: str, number: int) -> str:
    """Return the URL of the mark of a version that is whole."""
    return f"{url}/{MARKS}{number:06d}.json"


def version_at(url: str) -> Version | None:
    """Return the record of the version whose prefix is `url`; None where it is that of no later version."""
    found = _ROOT.fullmatch(url)
    record = record_url(found[1], int(found[2])) if found else ""
    data = storage.read_if_there(record) if record else None
    return None if data is None else decode_version(data, record)


def begun(url: str) -> list[Version]:
    """Return the later versions of the output at `url`, whole or not, by number: one listing, and a read for each."""
    return [_read(url, number) for number in numbers(url)]


def marked(url: str) -> list[Version]:
    """Return the later versions that are whole, by number."""
    return [_read(url, number) for number in marks(url)]


def numbers(url: str) -> list[int]:
    """Return the numbers of the later versions, whole or not, from one listing."""
    return _numbers(url, RECORDS)


def marks(url: str) -> list[int]:
    """Return the numbers of the later versions that are whole, from one listing."""
    return _numbers(url, MARKS)


def _numbers(url: str, folder: str) -> list[int]:
    names = (_NAME.fullmatch(entry.name) for entry in storage.list_files(f"{url}/{folder}".rstrip("/"), ".json"))
    return [int(name[1]) for name in names if name]


def _read(url: str, number: int) -> Version:
    record = record_url(url, number)
    return decode_version(storage.read(record), record)


def current(whole: Sequence[Version]) -> dict[str, int]:
    """Return, by label, the version that is read, of those labels that have a later one than the first."""
    return {label: version.number for version in sorted(whole) for label in version.labels}


def current_root(url: str) -> str:
    """Return the prefix of the version of a whole output that is read; `url` where it has no later one."""
    return root_of(url, current(marked(url)).get(WHOLE, 1))


def current_data(
    of_first: storage.Entries, newest: Mapping[str, int], listed: Callable[[int], storage.Entries], below: str = ""
) -> storage.Entries:
    """Return the data that readers are to see, with the names that it has below data/.

    `of_first` is the data of the first version, `listed` returns that of another one, and `newest` is what `current`
    returned. All are named relative to the folder `below` in data/ (with a slash at its end, or empty).
    """
    parts = [_of(of_first, newest, 1, below)]
    parts += [_of(listed(number), newest, number, below) for number in sorted(set(newest.values()))]
    return storage.Entries.joined(parts)


def _of(data: storage.Entries, newest: Mapping[str, int], number: int, below: str) -> storage.Entries:
    """Return the part of a version's data that readers are to see."""
    if WHOLE in newest:
        return data if newest[WHOLE] == number else data[:0]
    labels = pa.array([f"slot={label}" for label, found in newest.items() if (found == number) == (number > 1)])
    text = pa.large_string()
    paths = pc.binary_join_element_wise(pa.scalar(below, text), data.names, pa.scalar("", text))
    slots = pc.list_element(pc.split_pattern(paths, "/", max_splits=1), 0) if len(paths) else paths
    is_in = pc.is_in(slots, labels.cast(text)).to_numpy(zero_copy_only=False)
    return data.take(np.flatnonzero(is_in if number > 1 else ~is_in))
