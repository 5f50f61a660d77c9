"""Names of samples in a tar, from any key and back.

WebDataset takes a name up to the first dot of its last part for the key, and lays samples out as paths. So a key has
escapes, as in a URL, where its name would be another key's or leave the folder that it is unpacked in.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_ESCAPED = re.compile(
    r"%"  # else a key could look like the name of another
    r"|\.(?=[^/]*$)"  # a dot in the last part, where the ending begins
    r"|(?:(?<=^)|(?<=/))[./]"  # a part that is hidden, `..`, or nothing
    r"|(?:(?<=^)|(?<=/))_(?=_)"  # names that readers keep for themselves
    r"|/$"
    r"|[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # what would steer a terminal
)
_NOTHING = "%-"
"""Name of the empty key; no other key's name has a percent sign before a hyphen."""


def sample_name(key: str) -> str:
    """Return the name, without an ending, of the files of a key's sample; no two keys share one."""
    return _ESCAPED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), key) or _NOTHING


def key_of(name: str) -> str:
    """Invert `sample_name`."""
    return "" if name == _NOTHING else unquote(name)
