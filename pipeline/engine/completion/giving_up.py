"""Deletion of the data of whole segments. Their plans, commits and quarantine stay, so every input stays accounted for.

It is recorded before anything is deleted: after a kill, the next call goes on with it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline import storage
from pipeline.engine.completion.metadata import METADATA
from pipeline.engine.records.layout import VERDICTS, Output, listed_files
from pipeline.engine.records.units import Segment

_SHARD = re.compile(r"(?:.*/)?(\d{6})-\d{6}\.(?:parquet|tar)")


def data_of(output: Output, segments: Iterable[int]) -> dict[int, list[storage.Entry]]:
    """Return the objects that hold the rows of these segments, by segment; those without any are left out.

    The object that stands for a unit of a folder comes after the files that it lists.
    """
    wanted, found = set(segments), defaultdict[int, list[storage.Entry]](list)
    data = storage.list_files(output.at("data"))
    for entry in data:
        if (name := _SHARD.fullmatch(entry.name)) and int(name[1]) in wanted:
            found[int(name[1])].append(entry)
    of_files = storage.list_files(output.at(VERDICTS.rstrip("/")), ".parquet")
    files = {entry.name: entry for entry in data} if len(of_files) else {}
    for entry in of_files:
        if (name := _SHARD.fullmatch(entry.name)) and int(name[1]) in wanted:
            listed = [files.get(file.name) for file in listed_files(output, f"{VERDICTS}{entry.name}")]
            found[int(name[1])] += [*filter(None, listed), entry]
    if found and (metadata := files.get(METADATA.removeprefix("data/"))):
        found[min(found)].insert(0, metadata)  # it names the files that go; the next completion makes it anew
    return dict(found)


def record_given_up(output: Output, segments: Iterable[Segment]) -> list[Segment]:
    """Record that the data of these segments is given up; return those of which it was not recorded."""
    retired = output.retired_segments()
    new = [segment for segment in segments if segment.number not in retired]
    for segment in new:
        record = json.dumps({"segment": segment.number, "slot": segment.label}).encode()
        storage.create(output.retired(segment.number), record)
    return new


def delete_given_up(output: Output) -> Sequence[int]:
    """Delete what is there of the data of all segments that were given up; return the numbers of those that had any."""
    retired = output.retired_segments()
    left = data_of(output, retired) if retired else {}
    for entries in left.values():
        for entry in entries:
            storage.delete(entry.url)
    return list(left)
