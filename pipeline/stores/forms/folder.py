"""Folders of image files, read recursively: each file is a shard of one row, and its relative path is its key.

In an output, a *verdict* stands for the files of a unit: a Parquet shard of their keys, names and checksums, and of all
columns but the image.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from pipeline import images, storage
from pipeline.stores.forms import naming
from pipeline.stores.forms.form import File
from pipeline.stores.forms.metadata.joining import columns_of, described_as_planned, metadata_of, row_schema_of
from pipeline.stores.forms.shard import ShardForm, encode_shard
from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.ranges import Range, whole_shards
from pipeline.stores.tables.schema import IMAGE_TYPE, SHARD, Store, image_column, read_planned, require_unchanged

T = TypeVar("T")

_READ_THREADS = 16
_CACHED_S = 0.001
"""Seconds in which a small file comes from the system's cache; a disk takes as long, or longer."""


class Folder(ShardForm):
    """A folder of image files."""

    name, title, one = "folder", "image files", f"image ({', '.join(images.EXTENSIONS)})"
    stands_alone = True
    names_are_keys = True

    def reads(self, name: str) -> bool:
        return naming.is_image(name)

    def open(self, url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
        schema = pa.schema([("key", pa.string()), ("image", IMAGE_TYPE)])
        return Store(url, self.name, schema, entries, whole_shards(entries).of_shards)

    def described(self, store: Store, files: storage.Entries) -> Store:
        """Return a folder with the columns that these metadata files have for its images.

        Raises UserError where they cannot be read, or describe a file twice.
        """
        more, over = metadata_of(store.url, files, store.shards)
        schema = with_features(pa.schema([*store.schema, *more]), features_of(more))
        ranges = replace(store.ranges, row_schema=row_schema_of(schema, files))
        return replace(store, schema=schema, look=ranges.of_shards, passed_over=(over,) if over else ())

    def read(
        self,
        ranges: Sequence[Range],
        columns: Sequence[str] | None,
        *,
        wants: Callable[[str], bool] | None = None,
        unchanged: bool = False,
    ) -> pa.Table:
        """Return files as rows of `key`, `image` and the shard; fetch their bytes only where `image` is requested.

        Without `image`, files that are known to be `unchanged` are not even examined.
        """
        ranges = [r for r in ranges if wants is None or wants(r.shard)]
        names = pa.array([r.shard for r in ranges], pa.string())
        table = pa.table({"key": names})
        wants_images = columns is None or "image" in columns
        if not wants_images and not unchanged:
            _of_each(require_unchanged, ranges)
        if wants_images:
            data = _of_each(_read, ranges)
            table = table.append_column("image", image_column(data, [r.shard.rsplit("/", 1)[-1] for r in ranges]))
        if ranges and (described := ranges[0].row_schema) is not None:
            more = columns_of(described, names.to_pylist(), columns)
            for field in more.schema:
                table = table.append_column(field, more[field.name])
            table = with_features(table, features_of(more.schema))
        return table.append_column(SHARD, names)

    def require_basis(self, planned: Range) -> None:
        if planned.row_schema is not None:
            described_as_planned(planned.row_schema)

    def row_names(self, piece: Range) -> list[str]:
        return [piece.shard]

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        yield from ((piece.url, [piece.shard]) for piece in store.ranges)

    def has_unique_keys(self, store: Store) -> bool:
        return True

    def encode(
        self, rows: pa.Table, notes: Mapping[str, str], column: str, extension: str
    ) -> tuple[bytes, Mapping[str, pa.Buffer]]:
        pictures = (data.as_buffer() for chunk in rows[column].chunks for data in chunk.field("bytes"))
        files = dict(zip(rows["key"].to_pylist(), pictures, strict=True))
        if extension and extension != naming.OF_CONTENT:
            names = [naming.file_name(key, extension) for key in files]
        else:
            always = extension == naming.OF_CONTENT
            names = [naming.named_by_content(key, memoryview(data), always=always) for key, data in files.items()]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"two keys would both be the file {twice}; give them endings, or use another form")
        listed = rows.drop_columns(column)
        for name, values in (
            ("file_name", names),
            ("sha256", [hashlib.sha256(data).hexdigest() for data in files.values()]),
        ):
            listed = listed.append_column(name, pa.array(values, pa.string()))
        return encode_shard(listed, notes), files

    def files(self, data: bytes) -> Sequence[File]:
        listed = self.columns(data, ["key", "file_name", "sha256"])
        return list(map(File, *(listed[name].to_pylist() for name in ("key", "file_name", "sha256"))))


def _of_each(function: Callable[[Range], T], ranges: Sequence[Range]) -> list[T]:
    """Return what a function finds of each range; in threads, once a file takes longer than to hand it over."""
    found = list(_while_fast(function, ranges)) if ranges and storage.is_local(ranges[0].url) else []
    left = ranges[len(found) :]
    if left:
        with ThreadPoolExecutor(min(_READ_THREADS, len(left))) as threads:
            found += threads.map(function, left)
    return found


def _while_fast(function: Callable[[Range], T], ranges: Sequence[Range]) -> Iterator[T]:
    """Yield what a function finds of ranges, up to one that takes as long as a file that is not in the system's cache.

    Sixteen threads take four times as long as one for files that are.
    """
    for each in ranges:
        began_s = time.perf_counter()
        yield function(each)
        if time.perf_counter() - began_s > _CACHED_S:
            return


def _read(wanted: Range) -> bytes:
    return read_planned(wanted, size=wanted.size)
