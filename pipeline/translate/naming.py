"""Translators that a configuration of `jobs.translate` asks for: their names, and the models of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import UserError
from pipeline.translate.config import TranslateConfig

_NAMED = "name them as translators in a --config file"
_ENDING = re.compile(r"\.(pt2|onnx|ya?ml)$")


class Wanted(NamedTuple):
    """One model, as it is asked for."""

    bundle: str
    direction: str | None
    """Direction whose generator to use; None for the one that the bundle was trained for."""


def wanted_models(config: TranslateConfig) -> Mapping[str, Sequence[Wanted]]:
    """Return the models of each translator, in the order in which images go through them, by the translator's name.

    Names are sorted, since their order numbers the units of an output. The only translator of an output has the name
    "", unless the user gives it one. Raises UserError where two bundles would have one name.
    """
    if config.translators:
        found = {
            name: _models(named.chain or (named.bundle,), named.direction) for name, named in config.translators.items()
        }
    elif config.chain:
        found = {"": _models(config.chain, config.direction)}
    elif "both" in config.direction:
        names = names_of(config.bundle) if len(config.bundle) > 1 else [""]
        found = {
            "-".join(filter(None, (name, direction))): [Wanted(bundle, direction)]
            for name, bundle in zip(names, config.bundle, strict=True)
            for direction in ("a_to_b", "b_to_a")
        }
    else:
        names = names_of(config.bundle) if len(config.bundle) > 1 else [""]
        models = _models(config.bundle, config.direction)
        found = {name: [model] for name, model in zip(names, models, strict=True)}
    return dict(sorted(found.items()))


def names_of(bundles: Sequence[str]) -> list[str]:
    """Return a name for each of several bundles: the last part of its URL that is not that of all of them.

    `runs/night/bundle` and `runs/rain/bundle` are night and rain. Raises UserError where two are the same bundle, or
    have the same name.
    """
    urls = [storage.absolute(bundle) for bundle in bundles]
    for url, bundle in zip(urls, bundles, strict=True):
        if urls.count(url) > 1:
            raise UserError(f"--bundle has {bundle} twice; give it once, with --direction both, or {_NAMED}")
    parts = [_ENDING.sub("", url).rstrip("/").split("/") for url in urls]
    while len({each[-1] for each in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [each[:-1] for each in parts]
    names = [re.sub(r"[^A-Za-z0-9_-]+", "-", each[-1]).strip("-_") for each in parts]
    for name, bundle in zip(names, bundles, strict=True):
        if not name or name.isdigit():
            raise UserError(f"{bundle}: its folder, {name!r}, makes no name of a translator; {_NAMED}")
        if names.count(name) > 1:
            alike = [other for other, same in zip(bundles, names, strict=True) if same == name]
            raise UserError(f"{' and '.join(alike)} would both be the translator {name}; {_NAMED}")
    return names


def _models(bundles: Sequence[str], directions: Sequence[str]) -> list[Wanted]:
    of_each: list[str | None] = [*directions] or [None]
    of_each = of_each * len(bundles) if len(of_each) == 1 else of_each
    return [Wanted(bundle, direction) for bundle, direction in zip(bundles, of_each, strict=True)]
