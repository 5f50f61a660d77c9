"""Recipe of an output or a run as plain data: its fingerprint, and the differences between two recipes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

ABSENT = "absent"


class Change(NamedTuple):
    """Setting in which two recipes differ."""

    name: str
    """Name of the setting, with dots between its levels."""
    before: Any
    now: Any


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Return the sha256 of a recipe, regardless of the order of its keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the settings that differ, sorted by name; ABSENT stands for a missing value.

    The list is empty if and only if the fingerprints are equal. Values are compared as a file would return them, where
    a tuple is a list.
    """
    old, new = flat(json.loads(json.dumps(before))), flat(json.loads(json.dumps(now)))
    # Compare text, as the fingerprint does: to Python, False equals 0.
    old_text, new_text = ({name: json.dumps(value) for name, value in each.items()} for each in (old, new))
    return [
        Change(name, old.get(name, ABSENT), new.get(name, ABSENT))
        for name in sorted(old.keys() | new.keys())
        if old_text.get(name) != new_text.get(name)
    ]


def models_of(recipe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a translation's recipe says of each model: by translator and place in its chain, such as `night`,
    `night 2` or `2`, and under "" of the only model of an output.

    Empty where the recipe has no model.
    """
    found = dict[str, Mapping[str, Any]]()
    for name, made in recipe.get("translators", {"": recipe}).items():
        for place, model in made.get("chain", {"": made}).items():
            if "model" in model:
                found[" ".join(filter(None, (name, place)))] = model
    return found


PAGE_OF = "page_of"
"""Column with the key of the input of which a row is one picture, where a recipe makes rows of them."""


def has_rows_of_pages(recipe: Mapping[str, Any]) -> bool:
    """Return True where a recipe makes a row of each picture in a file."""
    return "all" in (recipe.get("pages"), recipe.get("gif"))


def flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `recipe` as a flat mapping with dotted names, as flags spell them."""
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return found
