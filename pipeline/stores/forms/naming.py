"""Classification of names below a prefix: which are inputs, and why the others are not.

Names that begin with a dot are never inputs. A leading underscore hides a Parquet file, as it does from Spark, Hive and
pyarrow, and everything that an output keeps for itself. Images may have one: cameras write _DSC0007.JPG.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import pyarrow.compute as pc

from pipeline import images, storage

OF_AN_OUTPUT = ("_transdomain", "_quarantine", "_versions")
"""Folders that an output keeps next to its data."""
OF_CONTENT = "*"
"""Ending that stands for that of each file's own content."""
_HIDDEN_PART = re.compile(r"(?:^|/)(?:\.|__)")
_UNSHOWN = re.compile(r"%(?=[0-9A-Fa-f]{2})|[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Text that looks like an escape, and characters that would steer a terminal or turn its direction."""
_MARKER = re.compile(r"_(SUCCESS|metadata|common_metadata|delta_log|(started|committed)_.*)")
"""Names of files that Spark and similar tools leave next to data: not data, and not worth a message."""
_LONGEST_PART = 255
"""Bytes that the name of a file or folder may have on most disks."""
_MOST_ENDINGS = 20
"""Limit of endings that are counted separately."""


def is_shard(name: str) -> bool:
    """Return True where a name is that of a Parquet shard."""
    return name.lower().endswith(".parquet")


def is_image(name: str) -> bool:
    """Return True where a name is that of an image in a format that can be decoded."""
    return name.lower().endswith(images.EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Return True where no object of this name is anybody's input, whatever its form."""
    return any(part.startswith(".") or part in OF_AN_OUTPUT for part in name.split("/"))


def is_reserved(name: str) -> bool:
    """Return True where a part of the name begins with an underscore."""
    return any(part.startswith("_") for part in name.split("/"))


def is_marker(name: str) -> bool:
    """Return True for what Spark and similar tools leave next to data."""
    return _MARKER.fullmatch(name.rpartition("/")[2]) is not None


def file_name(key: str, extension: str) -> str:
    """Return the name below data/ of the file that a folder output has for a key; no two keys share one.

    Without an `extension`, the name is that of the key alone.

    Each part of a key that begins with a dot, which every reader ignores, or with two underscores, which `datasets`
    ignores, gets its first character as %2E or %5F. The same goes for characters that would steer a terminal listing
    the folder (%0A, %1B, ...), and for a percent sign before two hexadecimal digits (%25), so that names decode into
    keys like those of URLs, and stay distinct. A single underscore stays: readers of image folders show such files, and
    cameras write them.
    """
    if _HIDDEN_PART.search(key) or _UNSHOWN.search(key):
        key = "/".join(_shown_part(part) for part in key.split("/"))
    return f"{key}.{extension}" if extension else key


def name_fault(key: str, extension: str, longest: int) -> str:
    """Return why a key cannot be a file's name below data/, of at most `longest` bytes; empty where it can."""
    try:
        storage.join("data", key)
        name = file_name(key, extension).encode()
    except ValueError as error:  # includes UnicodeEncodeError
        return str(error)
    if max(map(len, name.split(b"/"))) > _LONGEST_PART:
        return f"a part of it, with its ending, is longer than {_LONGEST_PART} bytes, which no file's name may be"
    if len(name) > longest:
        return f"as a file it would have {len(name)} bytes below data/, where there is room for {longest}"
    return ""


def kept_name_fault(key: str, longest: int) -> str:
    """Return why a key cannot be the name of a file that is kept as it is; empty where it can."""
    return name_fault(key, "" if is_image(key) else "jpeg", longest)


def named_by_content(key: str, data: bytes | memoryview, *, always: bool = False) -> str:
    """Return the name below data/ of a file that is kept as it is: its key, with an ending where it has no image's.

    Two keys may share one, such as `a` and `a.png` of two PNGs; not where an ending is `always` added.
    """
    if is_image(key) and not always:
        return file_name(key, "")
    ending = images.ending_of(data) or "img"
    return file_name(key, "" if key.lower().endswith(f".{ending}") and not always else ending)


def _shown_part(part: str) -> str:
    shown = _UNSHOWN.sub(lambda found: quote(found[0]), part)
    if shown.startswith("__") or (shown.startswith(".") and part not in (".", "..")):
        return f"%{ord(shown[0]):02X}{shown[1:]}"
    return shown


def roots_of_outputs(entries: storage.Entries) -> list[str]:
    """Return the outputs of jobs among these entries, each with a slash at its end; empty for the prefix itself."""
    job = "_transdomain/job.json"
    found = entries.names.filter(pc.ends_with(entries.names, job)).to_pylist()
    return [name.removesuffix(job) for name in found if name == job or name.endswith(f"/{job}")]


def by_ending(name: str, tally: storage.Tally) -> str:
    """Return the reason why a file of no form is passed over: its ending, for the first few endings."""
    ending = re.search(r"[^/]\.(\w{1,10})$", name)
    if not ending:
        return "files without an ending"
    reason = f"files ending in .{ending[1].lower()}"
    return reason if reason in tally.counts or len(tally.counts) < _MOST_ENDINGS else "files of other endings"
