"""From a command line to a configuration: YAML files first, flags over them, one parser (tyro) for both."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro
import yaml

from pipeline import storage
from pipeline.errors import UserError

C = TypeVar("C")


def parse(config: type[C], argv: Sequence[str], *, prog: str, description: str) -> C:
    """The configuration that `argv` describes.

    `--config FILE.yaml` may stand anywhere and more than once: each file is a partial configuration; flags come after
    all files, and what comes later wins. Raises UserError for an unknown key or flag (naming the nearest known one),
    an unreadable file or an impossible combination. Exits like any command line for `--help` (0) and for a value of
    the wrong type or a missing one (2).
    """
    urls, flags = _split_config_flags(argv)
    files = [(url, _load(url)) for url in urls]
    tokens = [token for url, values in files for token in _tokens(values, config, url)]
    parsed, unknown = tyro.cli(
        _with_named(config, files),
        args=[*tokens, *flags],
        prog=prog,
        description=f"{description}\n\n--config FILE.yaml holds any of the options below; flags win over files.",
        use_underscores=True,
        return_unknown_args=True,
    )
    if unknown:
        known = [f"--{name}" for name in _flag_names(config)] + ["--config", "--help"]
        if not unknown[0].startswith("-"):
            raise UserError(f"{unknown[0]!r} is not expected; every value has its flag, such as --input {unknown[0]}")
        raise UserError(f"unknown option {unknown[0]}{_nearest(unknown[0].split('=')[0].replace('-', '_'), known)}")
    return parsed


def _split_config_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    files, flags, rest = [], [], iter(argv)
    for token in rest:
        if token == "--config":
            files.append(next(rest, ""))
        elif token.startswith("--config="):
            files.append(token.removeprefix("--config="))
        else:
            flags.append(token)
    if "" in files:
        raise UserError("--config needs a file: --config FILE.yaml")
    return files, flags


def _load(url: str) -> Mapping[str, Any]:
    try:
        loaded = yaml.safe_load(storage.read(url))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{url}: there is no such configuration file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{url}: not valid YAML: {' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(f"{url}: expected `option: value` lines, found a {type(loaded).__name__}")
    return loaded


def _tokens(values: Mapping[str, Any], config: type, url: str, prefix: str = "") -> Iterator[str]:
    """`values` as the flags that say the same, so that one parser decides what every value means."""
    fields, repeatable = typing.get_type_hints(config), _repeatable(config)
    for name, value in values.items():
        flag = f"--{prefix}{name}"
        if name not in fields:
            raise UserError(f"{url}: unknown key {prefix}{name}{_nearest(str(name), list(fields))}")
        if _named_kind(fields[name]):
            continue
        if dataclasses.is_dataclass(fields[name]) and isinstance(value, dict):
            yield from _tokens(value, typing.cast(type, fields[name]), url, f"{prefix}{name}.")
        elif isinstance(value, bool) and fields[name] is bool:
            yield flag if value else f"--{prefix}no_{name}"
        elif isinstance(value, dict):
            yield from (flag, *(str(part) for item in value.items() for part in item))
        elif isinstance(value, list) and name in repeatable:
            yield from (token for part in value for token in (flag, str(part)))
        elif isinstance(value, list):
            yield from (flag, *map(str, value))
        else:
            yield from (flag, str(value))


def _with_named(config: type[C], files: Sequence[tuple[str, Mapping[str, Any]]]) -> type[C]:
    """`config` whose options of named things (`dict[str, DATACLASS]`) have what the files say as their default.

    Names are known from the files alone, and only then has each of them its flags: --translators.night.bundle.
    """
    changed: list[tuple[str, Any, Any]] = []
    for field, kind in typing.get_type_hints(config).items():
        named = _named_kind(kind)
        if named and (found := _read_named(field, named, files)):
            changed.append((field, kind, dataclasses.field(default_factory=functools.partial(dict, found))))
    if not changed:
        return config
    return dataclasses.make_dataclass(config.__name__, changed, bases=(config,), frozen=True, kw_only=True)


def _read_named(field: str, kind: type, files: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The things of this kind that the files name; what a later file says of one is added to what an earlier said."""
    said: dict[str, list[str]] = {}
    for url, values in files:
        for name, entry in (values.get(field) or {}).items():
            prefix = f"{field}.{name}."
            if not isinstance(entry, dict):
                raise UserError(f"{url}: {field}.{name} is {entry!r}: expected `option: value` lines below it")
            tokens = _tokens(entry, kind, url, prefix)
            said.setdefault(name, []).extend(token.replace(f"--{prefix}", "--", 1) for token in tokens)
    for name, words in said.items():
        for option in dataclasses.fields(kind):
            if option.default is dataclasses.MISSING and f"--{option.name}" not in words:
                raise UserError(f"{files[-1][0]}: {field}.{name}.{option.name} is missing")
    return {name: tyro.cli(kind, args=words, use_underscores=True) for name, words in said.items()}


def _named_kind(kind: Any) -> Any:
    """What is named, where `kind` is a `dict[str, DATACLASS]`."""
    arguments = typing.get_args(kind)
    return arguments[1] if typing.get_origin(kind) is dict and dataclasses.is_dataclass(arguments[1]) else None


def _repeatable(config: type) -> set[str]:
    """The fields that take one value a flag, and the flag again for each further one (tyro's UseAppendAction)."""
    hints = typing.get_type_hints(config, include_extras=True)
    return {name for name, hint in hints.items() if typing.get_origin(hint) is typing.Annotated}


def _flag_names(config: type, prefix: str = "") -> Iterator[str]:
    for name, kind in typing.get_type_hints(config).items():
        if isinstance(kind, types.UnionType) or not dataclasses.is_dataclass(kind):
            yield f"{prefix}{name}"
        else:
            yield from _flag_names(typing.cast(type, kind), f"{prefix}{name}.")


def _nearest(name: str, known: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else f"; known are {', '.join(known)}"
