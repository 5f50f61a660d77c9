"""Dataset card of an output: its head names for `datasets` the data that readers are to see.

What a job writes names all of data/. Where slots or the whole output have a later version, head and last section are
derived from the marks of the versions, and the rest stays as the job wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from pipeline import storage
from pipeline.engine.records.layout import CARD, Output, load_segments
from pipeline.stores import versions

# Because of this head `datasets.load_dataset(OUTPUT)` reads only data/, from the first shard on. Without it the
# quarantine and the plan would be taken for data, too.
HEAD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/**
---
"""
_EVERYTHING = "    path: data/**\n"
_END = "---\n"
_REST = re.compile(r"^(?!configs:)(?=[^\s-])", re.MULTILINE)
"""Place where the first entry of a head begins after the list of its files."""
_SECTION = "\n## Versions\n"


def plain(card: bytes) -> bytes:
    """Return a card as the job wrote it, without what the versions of the output have changed in it."""
    rest, body = parts(card)
    return (head_with(rest) + body.partition(_SECTION)[0]).encode()


def head_with(rest: str) -> str:
    """Return the head of a card, with further entries, lines of YAML, after the list of its files."""
    return f"{HEAD.removesuffix(_END)}{rest}{_END}"


def parts(card: bytes) -> tuple[str, str]:
    """Return the entries of a card's head after the list of its files, and its body."""
    head, _, body = card.decode(errors="replace").removeprefix(_END).partition(f"\n{_END}")
    found = _REST.search(f"{head}\n")
    return f"{head}\n"[found.start() :] if found else "", body


def with_versions(output: Output, card: bytes) -> bytes:
    """Return the card that `output` is to have now, from a card with any head."""
    whole = versions.marked(output.url)
    if not whole:
        return plain(card)
    paths = "".join(f"    - {path}\n" for path in data_paths(output, whole))
    rest, body = parts(plain(card))
    head = head_with(rest).replace(_EVERYTHING, f"    path:\n{paths}")
    lines = [f"- {version}: `{versions.FOLDER}{version.number:06d}/`\n" for version in whole]
    said = "The newest one of each slot, or of the whole, is read; `data_files` above names it.\n"
    return "".join([head, body, _SECTION, "\n", said, "\n", *lines]).encode()


def data_paths(output: Output, whole: Collection[versions.Version]) -> list[str]:
    """Return the patterns, relative to the output, that match the data that readers are to see, and nothing else.

    `whole` are its later versions that are whole. A folder without files is left out, since `datasets` refuses it.
    """
    newest = versions.current(sorted(whole))
    if versions.WHOLE in newest:
        return [f"{versions.FOLDER}{newest[versions.WHOLE]:06d}/data/**"]
    superseded = {f"slot={label}" for label in newest}
    there = _folders(output)
    # A pattern cannot leave out old data, nor what is left of it while it is deleted.
    own = sorted(there - superseded - _given_up(output))
    paths = ["data/**"] if own and not there & superseded else [f"data/{folder}/**" for folder in own]
    for number in sorted(set(newest.values())):
        version = Output(versions.root_of(output.url, number))
        wanted = {f"slot={label}" for label, found in newest.items() if found == number}
        shown = (_folders(version) & wanted) - _given_up(version)
        paths += [f"{versions.FOLDER}{number:06d}/data/{folder}/**" for folder in sorted(shown)]
    return paths


def _folders(output: Output) -> set[str]:
    """Return the slots' folders with files in data/."""
    names = storage.list_files(output.at("data")).names.to_pylist()
    return {name.split("/")[0] for name in names if not storage.is_hidden(name)}


def _given_up(output: Output) -> set[str]:
    """Return the slots' folders that were given up, whose files are about to go."""
    segments = output.retired_segments()
    return {f"slot={each.label}" for each in load_segments(output) if each.number in segments} if segments else set()


def is_current(output: Output, written: bytes) -> bool:
    """Return True where the card that a job has written is there, with what the versions that there are now say."""
    found = storage.read_if_there(output.at(CARD))
    return found is not None and found == with_versions(output, written)


def publish_card(output: Output) -> None:
    """Write the card anew from what is there, so that `datasets` reads what the marks say.

    Other runs may write it, and the mark that has its hash, at the same time: who writes last compares.
    """
    while True:
        before = _state(output)
        card = storage.read_if_there(output.at(CARD))
        if card is None:  # its job's next run writes it
            return
        wanted = with_versions(output, card)
        if wanted != card:
            storage.replace(output.at(CARD), wanted)
        if _state(output) == before:
            return


def _state(output: Output) -> tuple[bytes | None, list[int]]:
    return storage.read_if_there(output.success), versions.marks(output.url)
