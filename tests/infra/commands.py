"""Command lines as written in manifests and documents, read by the parsers of the jobs that they name."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline.config import parse
from tests.infra.manifests import ROOT

IN_THE_IMAGE = "/opt/transdomain/"
_JOB = re.compile(r"(?:^|\s|\")((?:python -m jobs\.\w+|transdomain \w+)(?: [^\n]*)?)")
_FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


class UnknownJobError(Exception):
    """Name of a job that does not exist, in a line."""


def lines_of(script: str) -> list[str]:
    """Return the lines of a script, or of comments, that begin a job, each whole."""
    whole = re.sub(r"\\\n#?\s*", " ", script)
    uncommented = re.sub(r"(?<=\S)[ \t]+#\s.*$", "", whole, flags=re.MULTILINE)
    return [found.strip() for found in _JOB.findall(uncommented)]


def lines_of_markdown(text: str) -> list[str]:
    """Return the same of its ```bash blocks."""
    return [line for block in _FENCE.findall(text) for line in lines_of(block)]


def job_of(line: str) -> str:
    """Return the job that a line runs; for a submission, submit."""
    words = shlex.split(line)
    return words[1] if words[0] == "transdomain" else words[2].removeprefix("jobs.")


def read(line: str, files: Mapping[str, Path] = {}) -> list[Any]:
    """Return the configuration that the line's job makes of it; for a submission, that of the submitted job, too.

    `files` maps a file of the cluster to its place here. Raises what the job's parser raises.
    """
    words = [_here(word, files) for word in shlex.split(line)]
    name = job_of(line)
    if not name.isidentifier() or importlib.util.find_spec(f"jobs.{name}") is None:
        raise UnknownJobError(name)
    return _read(name, words[2:] if words[0] == "transdomain" else words[3:])


def _read(name: str, arguments: Sequence[str]) -> list[Any]:
    module = importlib.import_module(f"jobs.{name}")
    seen: list[tuple[type, list[str]]] = []

    def note(config: type, function: Callable[..., int], *, argv: Sequence[str], **_: Any) -> int:
        seen.append((config, list(argv)))
        return 0

    with mock.patch.object(module, "run_job", note):
        module.main(list(arguments))
    [(config, own)] = seen
    found: list[Any] = [parse(config, own, prog=name, description="")]
    rest = [word for word in arguments[len(own) :] if word != "--"]
    return found + _read(rest[0], rest[1:]) if rest else found


def _here(word: str, files: Mapping[str, Path]) -> str:
    if word in files:
        return str(files[word])
    return str(ROOT / word.removeprefix(IN_THE_IMAGE)) if word.startswith(IN_THE_IMAGE) else word
