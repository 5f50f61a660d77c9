"""What makes an output or a run what it is, as plain data: its fingerprint, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

ABSENT = "absent"


class Change(NamedTuple):
    """One setting in which two recipes differ."""

    name: str
    """With a dot between the levels."""
    before: Any
    now: Any


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """sha256 of a recipe, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The settings that differ, by name; the word ABSENT stands for one that is not there. None where, and only where,
    the fingerprints are the same.

    Compared as they come back from a file, where a tuple is a list.
    """
    old, new = flat(json.loads(json.dumps(before))), flat(json.loads(json.dumps(now)))
    # As text, which is what the fingerprint is of: to Python, False equals 0.
    old_text, new_text = ({name: json.dumps(value) for name, value in each.items()} for each in (old, new))
    return [
        Change(name, old.get(name, ABSENT), new.get(name, ABSENT))
        for name in sorted(old.keys() | new.keys())
        if old_text.get(name) != new_text.get(name)
    ]


def flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`recipe` by dotted names, as its flags have them."""
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return found
