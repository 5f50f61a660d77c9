"""Requests that a run makes at an S3 server; docs/performance.md has the same table, and tests hold both to it."""

from __future__ import annotations

from typing import NamedTuple

PER_LISTING = 1000
"""Names that one request lists."""


class Each(NamedTuple):
    """Requests for one of a kind: those at the output's server that write or list, and those that read."""

    put: int = 0
    get: int = 0
    get_input: int = 0
    """Requests that read at the input's server."""


RUN = Each(put=27, get=22, get_input=4)
"""Run, however small: proofs, plan, manifest, report, cards and Croissant metadata."""
RUN_OF_FILES = Each(get_input=6)
"""More of a run whose images are files: the sizes of some."""
SHEET = Each(get=8, get_input=2)
"""Pictures in the report, which there are where the output is shards."""
SHEET_OF_FILES = Each(get_input=11)
"""More of these where the images are files."""
SHARD = Each(get_input=2)
"""New source shard: its footer, twice, since that has no checksum."""
SHARD_KEYS = Each(get_input=4)
"""New source shard with a column of keys, which are compared."""
UNIT = Each(put=3, get=2)
"""Unit: data and commit, after a look whether it is done, which S3 answers with a listing; the commit at the end."""
UNIT_KEYS = Each(get=4)
"""Unit whose keys are compared at the end."""
UNIT_OF_SHARDS = Each(get_input=2)
"""Unit whose rows are in a shard."""
FILE = Each(get_input=1)
"""Image that is a file of a folder."""
FIRST_BYTES = Each(get_input=1)
"""File whose first bytes are read for the listing (`--extensions any`)."""
FILE_WRITTEN = Each(put=1)
"""Image that becomes a file of a folder."""
UNIT_OF_QUARANTINED = Each(put=1, get=4)
"""More of a unit with quarantined inputs: their shard, whose reasons the report counts."""
SHEET_OF_QUARANTINED = Each(get_input=24)
"""Pictures of quarantined inputs in the report, at most."""
RUN_TO_FILES, UNIT_OF_FILES = Each(put=1, get=4), Each(get=1)
"""Metadata of these files, and the verdict of each unit that they are made from."""


class Requests(NamedTuple):
    """Numbers of requests: those that write or list, and those that read."""

    put: int
    get: int


def requests_of_quarantined(units: int, *, reads_s3: bool, writes_s3: bool) -> Requests:
    """Return the requests, at most, that come on top where so many units have quarantined inputs."""
    of_kinds = [(UNIT_OF_QUARANTINED, units), (SHEET_OF_QUARANTINED, bool(units))]
    put, get, get_input = (sum(each[i] * count for each, count in of_kinds) for i in range(3))
    return Requests(put * writes_s3, get * writes_s3 + get_input * reads_s3)


def expected_requests(
    *, units: int, images: int, shards: int, files: bool, files_written: bool, keys: bool, reads_s3: bool,
    writes_s3: bool, first_bytes: int = 0
) -> Requests:  # fmt: skip
    """Return the requests of a run over so many `images` in so many `units` of new `shards`.

    `files` says that the images are files of a folder, `files_written` that the translations become such, `keys` that
    keys have to be compared, `first_bytes` of how many files these are read for the listing. Requests are made where
    the input (`reads_s3`), or the output (`writes_s3`), is on S3. Those of quarantined inputs come on top.
    """
    of_kinds = [(RUN, 1), (UNIT, units), (FIRST_BYTES, first_bytes)]
    of_kinds += [(UNIT_KEYS, units)] if keys else []
    if files:
        of_kinds += [(RUN_OF_FILES, 1), (FILE, images)]
    else:
        of_kinds += [(UNIT_OF_SHARDS, units), (SHARD, shards)]
        of_kinds += [(SHARD_KEYS, shards)] if keys else []
    if files_written:
        of_kinds += [(FILE_WRITTEN, images), (RUN_TO_FILES, 1), (UNIT_OF_FILES, units)]
    else:
        of_kinds += [(SHEET, 1), *([(SHEET_OF_FILES, 1)] if files else [])]
    put, get, get_input = (sum(each[i] * count for each, count in of_kinds) for i in range(3))
    listed = (images if files else shards) // PER_LISTING
    return Requests(put * writes_s3 + listed * reads_s3, get * writes_s3 + get_input * reads_s3)
