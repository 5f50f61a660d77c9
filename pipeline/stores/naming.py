"""Which names below a prefix are inputs, and why the others are not.

Names that begin with a dot are nobody's inputs. A leading underscore hides a Parquet file, as it does from Spark, Hive
and pyarrow, and what an output keeps for itself; pictures may have it: cameras write _DSC0007.JPG.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal
from urllib.parse import quote

from pipeline import images, storage

OF_AN_OUTPUT = ("_transdomain", "_quarantine")
"""Folders that an output keeps beside its data."""
_HIDDEN_PART = re.compile(r"(?:^|/)(?:\.|__)")
_UNSHOWN = re.compile(r"%(?=[0-9A-Fa-f]{2})|[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What looks like an escape, and what would steer a terminal or turn its direction."""
_MARKER = re.compile(r"_(SUCCESS|metadata|common_metadata|delta_log|(started|committed)_.*)")
"""What Spark and its like leave beside data: neither data nor worth a word."""
_MOST_ENDINGS = 20
"""Endings that are counted each by itself."""


def is_shard(name: str) -> bool:
    """Whether a name is a Parquet shard's."""
    return name.lower().endswith(".parquet")


def is_image(name: str) -> bool:
    """Whether a name is that of a picture in a format that can be decoded."""
    return name.lower().endswith(images.EXTENSIONS)


def is_shown(name: str) -> bool:
    """Whether an object of this name would be an input, if it is a picture or a shard."""
    parts = name.split("/")
    if any(part.startswith(".") or part in OF_AN_OUTPUT for part in parts):
        return False
    return not (is_shard(name) and _is_reserved(name))


def file_name(key: str, extension: str) -> str:
    """The name below data/ of the file that a folder output has for a key; no two keys have the same.

    A part of a key that begins with a dot, which every reader leaves out, or with two underscores, which `datasets`
    does, gets its first character as %2E or %5F. So does whatever would steer a terminal that lists the folder (%0A,
    %1B, ...), and a percent sign before two hexadecimal digits (%25), so that the names turn back into keys as those of
    URLs do, and stay apart. One underscore stays: readers of folders of pictures show it, and cameras write it.
    """
    if _HIDDEN_PART.search(key) or _UNSHOWN.search(key):
        key = "/".join(_shown_part(part) for part in key.split("/"))
    return f"{key}.{extension}"


def _shown_part(part: str) -> str:
    shown = _UNSHOWN.sub(lambda found: quote(found[0]), part)
    if shown.startswith("__") or (shown.startswith(".") and part not in (".", "..")):
        return f"%{ord(shown[0]):02X}{shown[1:]}"
    return shown


def roots_of_outputs(names: Iterable[str]) -> list[str]:
    """Where among these names the outputs of jobs are, each with a slash at its end; empty for the prefix itself."""
    job = "_transdomain/job.json"
    return [name.removesuffix(job) for name in names if name == job or name.endswith(f"/{job}")]


def inputs_among(
    entries: Sequence[storage.Entry], tally: storage.Tally
) -> tuple[Literal["parquet", "folder"], list[storage.Entry]]:
    """The form of a store and its shards or image files; what else there is goes into the tally."""
    ours = roots_of_outputs(e.name for e in entries)
    if ours:
        kept = [f"{root}{name}/" for root in ours for name in OF_AN_OUTPUT]
        entries = [e for e in entries if not e.name.startswith(tuple(kept))]
    if any(is_shard(e.name) and not _is_reserved(e.name) for e in entries):
        return "parquet", list(_inputs(entries, lambda name: is_shard(name) and not _is_reserved(name), tally))
    return "folder", list(_inputs(entries, is_image, tally))


def _inputs(
    entries: Iterable[storage.Entry], is_input: Callable[[str], bool], tally: storage.Tally
) -> Iterable[storage.Entry]:
    for entry in entries:
        if is_input(entry.name):
            yield entry
        elif is_image(entry.name):
            tally.add("image files beside Parquet shards", entry.name)
        elif is_shard(entry.name):
            tally.add("Parquet files whose name, or folder's name, begins with _", entry.name)
        elif not _MARKER.fullmatch(entry.name.rpartition("/")[2]):
            tally.add(_by_ending(entry.name, tally), entry.name)


def _by_ending(name: str, tally: storage.Tally) -> str:
    ending = re.search(r"[^/]\.(\w{1,10})$", name)
    if not ending:
        return "files without an ending"
    reason = f"files ending in .{ending[1].lower()}"
    return reason if reason in tally.counts or len(tally.counts) < _MOST_ENDINGS else "files of other endings"


def _is_reserved(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("/"))
