"""Files whose names say nothing of their form, and that are images by what they hold, or by the user's word."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from pipeline import images, storage
from pipeline.errors import StorageError
from pipeline.stores.forms import naming
from pipeline.stores.tables.options import StoreOptions

log = logging.getLogger("transdomain")

FIRST_BYTES = 64
"""Bytes that are read of a file: those by which formats are told apart."""
_THREADS = 32
_GIF = ".gif"
_ADVICE = "--reading.gif first reads their first frame"


class ByContent:
    """Function that says which of some files, of names of no form, are images, [N] bool; it counts the others.

    Files are read only where any extension will do: one request of FIRST_BYTES for each, by threads. Raises
    StorageError where one cannot be read, since it may be an image.
    """

    def __init__(self, url: str, options: StoreOptions, tally: storage.Tally) -> None:
        """Look at files below `url` as the `options` say, and count in `tally`."""
        self._url, self._options, self._tally = url, options, tally
        self.read = 0
        """Files of which the first bytes were read."""

    def __call__(self, entries: storage.Entries) -> np.ndarray:
        found = np.zeros(len(entries), bool)
        for at, (entry, why) in enumerate(zip(entries, self._faults(entries), strict=True)):
            found[at] = why is None
            if why is not None:
                self._tally.add(why or naming.by_ending(entry.name, self._tally), entry.name)
        if self.read:
            log.info(
                "%s: read %d bytes of each of %d files whose ending is of no form: %d begin as images do",
                self._url, FIRST_BYTES, self.read, int(found.sum()),
            )  # fmt: skip
        return found

    def _faults(self, entries: storage.Entries) -> Iterator[str | None]:
        """Yield, for each file, why it is no image: None where it is one, nothing where its ending says all."""
        if self._options.extensions != "any":
            for entry in entries:
                why = f"files ending in {_GIF} ({_ADVICE})" if _is_gif(entry.name) else ""
                yield None if why and self._options.gifs else why
            return
        self.read = len(entries)
        kinds = storage.told(
            storage.ahead(_kind_of, entries, _THREADS),
            lambda count: f"{self._url}: read the first bytes of {count:,} of {self.read:,} files",
        )
        for entry, kind in zip(entries, kinds, strict=True):
            if kind is None:
                yield f"{naming.by_ending(entry.name, self._tally)}, whose first bytes are of no image"
            else:
                yield self._why_not(kind)

    def _why_not(self, kind: str) -> str | None:
        """Return why files of a format are no input; None where they are."""
        if kind == "GIF" and not self._options.gifs:
            return f"GIF files ({_ADVICE})"
        if kind == "HEIF" and ".heic" not in images.EXTENSIONS:
            return "HEIF files (pip install 'transdomain[heif]' reads them)"
        return None


def names_single(url: str, options: StoreOptions) -> bool:
    """Return True where one object at `url` would be an image by the user's word, whatever its name."""
    return options.extensions == "any" or (options.gifs and _is_gif(url))


def _is_gif(name: str) -> bool:
    return name.lower().endswith(_GIF)


def _kind_of(entry: storage.Entry) -> str | None:
    """Return the format that a file begins as; None for no image, and for a file that has gone since it was listed."""
    if not entry.size:
        return None
    try:
        with storage.open_read(entry.url, entry) as file:
            return images.format_of(file.read(FIRST_BYTES))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise StorageError(f"{entry.url}: may not be read ({error.strerror or error}); make it readable") from error
