"""Folders of image files, read recursively: each file is a shard of one row, and its relative path is its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from pipeline import images, storage
from pipeline.errors import StorageError
from pipeline.stores.forms import naming
from pipeline.stores.forms.form import StoreForm
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import IMAGE_TYPE, SHARD, Store, image_array, require_unchanged

_READ_THREADS = 16


class Folder(StoreForm):
    """A folder of image files."""

    name, title, one = "folder", "image files", f"image ({', '.join(images.EXTENSIONS)})"
    names_are_keys = True

    def reads(self, name: str) -> bool:
        return naming.is_image(name)

    def open(self, url: str, entries: Sequence[storage.Entry], *, alike: bool = True) -> Store:
        schema = pa.schema([("key", pa.string()), ("image", IMAGE_TYPE)])
        return Store(url, self.name, schema, [Range(e.name, e.url, e.version, 0, 1, e.size) for e in entries])

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
        if wants_images or not unchanged:
            with ThreadPoolExecutor(max(1, min(_READ_THREADS, len(ranges)))) as threads:
                data = list(threads.map(_read if wants_images else require_unchanged, ranges))
        if wants_images:
            table = table.append_column("image", image_array(data, [r.shard.rsplit("/", 1)[-1] for r in ranges]))
        return table.append_column(SHARD, names)

    def row_names(self, piece: Range) -> list[str]:
        return [piece.shard]

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        yield from ((piece.url, [piece.shard]) for piece in store.ranges)

    def has_unique_keys(self, store: Store) -> bool:
        return True


def _read(wanted: Range) -> bytes:
    require_unchanged(wanted)
    try:
        return storage.read(wanted.url, size=wanted.size, version=wanted.version)
    except PermissionError as error:  # raised by the storage, not a fault of the image
        raise StorageError(f"{wanted.url}: may not be read ({error.strerror or error}); make it readable") from error
