"""Command lines become configurations: YAML files first, then flags over them, with one parser (tyro) for both."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import io
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import tyro
import yaml

from pipeline import storage
from pipeline.errors import UserError, check_secret_free, one_line
from pipeline.terminal import print_lines

C = TypeVar("C")

HELP, HELP_ALL = ("-h", "--help"), ("--help_all", "--help-all")
_SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z])")


def parse(config: type[C], argv: Sequence[str], *, prog: str, description: str) -> C:
    """Return the configuration that `argv` describes.

    `--config FILE.yaml` may stand anywhere and more than once: each file is a partial configuration; flags come after
    all files, and what comes later wins. Raises UserError for an unknown key or flag (naming the nearest known one),
    an unreadable file, an impossible combination, or credentials in a URL. Exits like any command line for `--help` and
    `--help_all` (0) and for a value of the wrong type or a missing one (2).

    A class may name in `COMMON` the options that `--help` shows; without it, all of its options are shown.
    """
    for token in argv:
        check_secret_free(token)
    urls, flags = _split_config_flags(argv)
    files = [(url, _load(url)) for url in urls]
    tokens = [token for url, values in files for token in _tokens(values, config, url)]
    for token in tokens:
        check_secret_free(token)
    named = _with_named(config, files, [*tokens, *flags])
    if not {*HELP, *HELP_ALL}.isdisjoint(flags):
        _show_help(named, prog, description, everything=not set(HELP_ALL).isdisjoint(flags))
    parsed, unknown = tyro.cli(
        named,
        args=[*tokens, *flags],
        prog=prog,
        use_underscores=True,
        return_unknown_args=True,
        registry=_help_rules(everything=True),
    )
    if unknown:
        known = [f"--{name}" for name in _flag_names(config)] + ["--config", "--help", "--help_all"]
        if not unknown[0].startswith("-"):
            raise UserError(f"{unknown[0]!r} is not expected; every value has its flag, such as --input {unknown[0]}")
        raise UserError(f"unknown option {unknown[0]}{_nearest(unknown[0].split('=')[0].replace('-', '_'), known)}")
    return parsed


def _show_help(config: type, prog: str, description: str, *, everything: bool) -> NoReturn:
    """Print the options and exit: the common ones with a sentence each, or `everything`."""
    page = io.TextIOWrapper(io.BytesIO(), encoding=(sys.stdout.encoding or "utf-8").lower(), errors="backslashreplace")
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        tyro.cli(
            config,
            args=["--help"],
            prog=prog,
            description=f"{description}\n\nOptions may also stand in files, --config FILE.yaml; flags win over files.",
            use_underscores=True,
            registry=_help_rules(everything),
        )
    page.seek(0)
    width = shutil.get_terminal_size().columns
    text = re.sub(r"\n{3,}", "\n\n", page.read())
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]]
    if not everything:
        hidden = len(list(_flag_names(config))) - len(list(_flag_names(config, common=True)))
        more = f"{hidden} more options, and more about each" if hidden else "More about each option"
        lines.append(f"{more}: --help_all")
    print_lines("\n".join(lines))
    sys.exit(0)


def _help_rules(everything: bool) -> tyro.constructors.ConstructorRegistry:
    """Return the rules by which tyro shows a configuration: in flowing lines, common options unless `everything`."""
    rules = tyro.constructors.ConstructorRegistry()
    inside = False

    @rules.struct_rule
    def flowing(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        nonlocal inside
        if inside or not dataclasses.is_dataclass(info.type):
            return None
        inside = True  # so that tyro's own rule answers
        try:
            spec = rules.get_struct_spec(info)
        finally:
            inside = False
        if not isinstance(spec, tyro.constructors.StructConstructorSpec):
            return None
        common, hidden = getattr(info.type, "COMMON", None), typing.cast(Any, tyro.conf.Suppress)
        fields = tuple(
            dataclasses.replace(
                field,
                helptext=functools.partial(_flowing, field.helptext, everything),
                type=field.type if everything or not common or field.name in common else hidden[field.type],
            )
            for field in spec.fields
        )
        return dataclasses.replace(spec, fields=fields)

    return rules


def _flowing(text: Any, everything: bool) -> str | None:
    """A docstring with a line a paragraph, or its first sentence."""
    text = text() if callable(text) else text
    if not text:
        return text
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    return "\n\n".join(paragraphs) if everything else _SENTENCE_END.split(paragraphs[0])[0]


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


class _UniqueKeys(yaml.SafeLoader):
    """Loader that refuses a key that a mapping has twice, of which YAML would take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen and key.value != "<<":
                raise yaml.composer.ComposerError(
                    None, None, f"{key.value!r} is there twice; give it once", key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return node


def _load(url: str) -> Mapping[str, Any]:
    try:
        loaded = yaml.load(storage.read(url), _UniqueKeys)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{url}: there is no such configuration file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{url}: not valid YAML: {one_line(error, kind=False)}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(f"{url}: expected `option: value` lines, found a {type(loaded).__name__}")
    return loaded


def _tokens(values: Mapping[str, Any], config: type, url: str, prefix: str = "") -> Iterator[str]:
    """Yield `values` as the equivalent flags, so that one parser decides what every value means."""
    fields, repeatable = typing.get_type_hints(config), _repeatable(config)
    for name, value in values.items():
        flag = f"--{prefix}{name}"
        if name not in fields:
            raise UserError(f"{url}: unknown key {prefix}{name}{_nearest(str(name), list(fields))}")
        kind = fields[name]
        if dataclasses.is_dataclass(kind) or typing.get_origin(kind) is dict:
            _require_mapping(value, url, f"{prefix}{name}", "name")
        if named := _named_kind(kind):
            for each, entry in _named_entries(value, url, f"{prefix}{name}"):
                yield from _tokens(entry, named, url, f"{prefix}{name}.{each}.")
        elif dataclasses.is_dataclass(kind):
            yield from _tokens(value, typing.cast(type, kind), url, f"{prefix}{name}.")
        elif isinstance(value, bool) and kind is bool:
            yield flag if value else f"--{prefix}no_{name}"
        elif isinstance(value, dict):
            said = [(str(key), _text(part, url, f"{prefix}{name}.{key}")) for key, part in value.items()]
            yield from (flag, *(part for item in said for part in item))
        elif isinstance(value, list) and not _takes_several(kind) and name not in repeatable:
            raise UserError(f"{url}: {prefix}{name} is {value}: it takes one value")
        elif isinstance(value, list):
            parts = [_text(part, url, f"{prefix}{name}") for part in value]
            yield from (token for part in parts for token in (flag, part)) if name in repeatable else (flag, *parts)
        elif value is None and type(None) in typing.get_args(kind):
            yield from (flag, "None")
        else:
            yield from (flag, _text(value, url, f"{prefix}{name}"))


def _takes_several(kind: Any) -> bool:
    return any(typing.get_origin(part) in (tuple, list) for part in (kind, *typing.get_args(kind)))


def _text(value: Any, url: str, name: str) -> str:
    """Return a value as its flag spells it. Raises UserError where the file leaves it empty."""
    if value is None:
        raise UserError(f"{url}: {name} is empty; give it a value, or leave the line out")
    return str(value)


def _require_mapping(value: Any, url: str, name: str, of: str) -> None:
    if not isinstance(value, dict):
        found = "empty" if value is None else repr(value)
        raise UserError(f"{url}: {name} is {found}: expected `{of}: value` lines below it")


def _named_entries(values: Mapping[Any, Any], url: str, field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the named entries of a file. Raises UserError for a name that is no word and an entry without options."""
    for name, entry in values.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name):
            raise UserError(
                f"{url}: {field}: {name!r} is not a name; use a word, in quotes where YAML takes it for more"
            )
        _require_mapping(entry, url, f"{field}.{name}", "option")
        yield name, entry


def _with_named(config: type[C], files: Sequence[tuple[str, Mapping[str, Any]]], tokens: Collection[str]) -> type[C]:
    """Return `config` with an entry for each name in the files, in its fields of type `dict[str, DATACLASS]`.

    Only the files tell the names; each name then gets flags of its own, such as --translators.night.bundle. Raises
    UserError where an option without a default is missing from `tokens`.
    """
    changed: list[tuple[str, Any, Any]] = []
    for field, kind in typing.get_type_hints(config).items():
        named = _named_kind(kind)
        names = {name: url for url, values in files for name in values.get(field, {})} if named else {}
        if not names:
            continue
        required = [option.name for option in dataclasses.fields(named) if option.default is dataclasses.MISSING]
        for name, url in names.items():
            alike = [other for other in names if other.replace("-", "_") == name.replace("-", "_")]
            if len(alike) > 1:
                raise UserError(
                    f"{url}: {field}: {' and '.join(alike)} differ in - and _ alone; flags cannot tell them"
                )
            for option in required:
                flag = f"--{field}.{name}.{option}"
                if not any(token == flag or token.startswith(f"{flag}=") for token in tokens):
                    raise UserError(f"{url}: {field}.{name}.{option} is missing")
        entries = {name: named(**dict.fromkeys(required, tyro.MISSING)) for name in names}
        changed.append((field, kind, dataclasses.field(default_factory=functools.partial(dict, entries))))
    if not changed:
        return config
    return dataclasses.make_dataclass(config.__name__, changed, bases=(config,), frozen=True, kw_only=True)


def _named_kind(kind: Any) -> Any:
    """Return the DATACLASS where `kind` is a `dict[str, DATACLASS]`, else None."""
    arguments = typing.get_args(kind)
    return arguments[1] if typing.get_origin(kind) is dict and dataclasses.is_dataclass(arguments[1]) else None


def _repeatable(config: type) -> set[str]:
    """Return the fields whose flag takes one value and is repeated for more (tyro's UseAppendAction)."""
    hints = typing.get_type_hints(config, include_extras=True)
    return {name for name, hint in hints.items() if typing.get_origin(hint) is typing.Annotated}


def _flag_names(config: type, prefix: str = "", *, common: bool = False) -> Iterator[str]:
    """The options of `config`, or those that its `--help` shows."""
    shown = getattr(config, "COMMON", None) if common else None
    for name, kind in typing.get_type_hints(config).items():
        if shown and name not in shown:
            continue
        if isinstance(kind, types.UnionType) or not dataclasses.is_dataclass(kind):
            yield f"{prefix}{name}"
        else:
            yield from _flag_names(typing.cast(type, kind), f"{prefix}{name}.", common=common)


def _nearest(name: str, known: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else f"; known are {', '.join(known)}"
