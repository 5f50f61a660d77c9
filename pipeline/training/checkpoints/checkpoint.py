"""Checkpoints: RUN/checkpoints/STEP/, complete once their record exists.

A checkpoint consists of a few parts, each named after its content, and `record.json`, which is written last and lists
the parts with their checksums. Files left behind by a kill are therefore never taken for a checkpoint, and a process
that has not quite died can only write the right content under each name. Parts are read with
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline import storage

log = logging.getLogger("transdomain")

FORMAT_VERSION = 1

_RECORD = "record.json"

State = Mapping[str, Any]
"""Content of a part: tensors, numbers and strings in dictionaries and lists."""


class CheckpointError(Exception):
    """Checkpoint that is damaged, or of a format that this version does not know; the message names it."""


class UnknownFormatError(CheckpointError):
    """Checkpoint of a format that this version does not know: not damaged, but for another version to read."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Description of a checkpoint."""

    step: int
    """Number of steps done."""
    parts: Mapping[str, tuple[str, str]]
    """Object name and SHA-256 of each part."""
    about: Mapping[str, Any]
    """Facts that the trainer needs before it reads a part."""


def save(run: str, step: int, parts: Mapping[str, State], about: Mapping[str, Any]) -> Record:
    """Publish the checkpoint of `step`. Raises what storage raises; a half-written checkpoint is never complete."""
    entries = {}
    for name, state in parts.items():
        data = _encode(state)
        digest = hashlib.sha256(data).hexdigest()
        entries[name] = (f"{name}-{digest[:16]}.pt", digest)
        storage.replace(_url(run, step, entries[name][0]), data)
    record = Record(step=step, parts=entries, about=dict(about))
    document = {"format_version": FORMAT_VERSION, "step": step, "parts": entries, "about": record.about}
    storage.replace(_url(run, step, _RECORD), (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())
    return record


def newest(run: str) -> tuple[Record, dict[str, State]] | None:
    """Return the newest complete checkpoint with its parts, or None where there is none.

    A damaged checkpoint is reported and its record removed, so that no later start tries it again; then the one before
    is used. Only one writer at a time may call this. Raises StorageError where the storage fails and UnknownFormatError
    for an unknown format; neither counts as damage.
    """
    for step in reversed(steps(run)):
        try:
            record = read_record(run, step)
            return record, {name: read_part(run, record, name) for name in record.parts}
        except UnknownFormatError:
            raise
        except CheckpointError as error:
            log.warning(f"{error}; falling back to the checkpoint before it")
            storage.delete(_url(run, step, _RECORD))
    return None


def steps(run: str) -> list[int]:
    """Return the steps that have a record, in ascending order."""
    folder = storage.join(run, "checkpoints")
    names = [entry.name.split("/") for entry in storage.list_files(folder, suffix=_RECORD)]
    return sorted(int(parts[0]) for parts in names if len(parts) == 2 and parts[0].isdigit())


def read_record(run: str, step: int) -> Record:
    """Return the record of the checkpoint of `step`. Raises CheckpointError where it is missing, damaged or unknown."""
    url = _url(run, step, _RECORD)
    try:
        document = json.loads(storage.read(url))
        version = document["format_version"]
        if version == FORMAT_VERSION:
            parts = {name: (str(file), str(digest)) for name, (file, digest) in document["parts"].items()}
            return Record(step=document["step"], parts=parts, about=document["about"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{url}: not a readable record ({type(error).__name__})") from error
    raise UnknownFormatError(
        f"{url}: checkpoint format {version}, and this version knows {FORMAT_VERSION}; "
        "go on with the version that wrote it, or choose another output"
    )


def read_part(run: str, record: Record, name: str) -> State:
    """Return one part of a checkpoint, on the CPU. Raises CheckpointError where it is missing or damaged."""
    file, expected = record.parts[name]
    url = _url(run, record.step, file)
    data = storage.read_if_there(url)
    if data is None:
        raise CheckpointError(f"{url}: missing")
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise CheckpointError(f"{url}: damaged (sha256 {found[:16]}…, its record says {expected[:16]}…)")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{url}: cannot be read ({type(error).__name__})") from error


def prune(run: str, keep: int, *, also: Collection[int] = ()) -> None:
    """Remove all but the newest `keep` checkpoints and those of the steps in `also`.

    Removes what kills have left between them, too. Records are deleted first, so that no checkpoint seems complete
    while its parts are being deleted.
    """
    found = steps(run)
    kept = {*found[-keep:], *also}
    if not found:
        return
    old = [
        entry
        for entry in storage.list_files(storage.join(run, "checkpoints"))
        if (folder := entry.name.split("/")[0]).isdigit() and int(folder) not in kept and int(folder) < found[-1]
    ]
    for entry in sorted(old, key=lambda entry: not entry.name.endswith(_RECORD)):
        storage.delete(entry.url)


def _encode(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _url(run: str, step: int, name: str) -> str:
    return storage.join(run, f"checkpoints/{step:09d}/{name}")
