"""The contract of a store form: what a prefix with images and keys looks like, how rows are read from it and written.

Names of objects say which form they are a shard of; so plans keep names only, and no other module asks for an ending.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline import storage
from pipeline.errors import UserError
from pipeline.stores.tables.options import StoreOptions
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import Store, require_unchanged, together


class StoreForm(ABC):
    """A way to keep images with keys. A further form is a subclass, and an entry of `registry.FORMS`."""

    name: str
    title: str
    """Name of its objects for people, in the plural."""
    one: str
    """Name of one of its objects for people."""
    unlisted: str = ""
    """Reason, for people, why an object that it could read is no input."""
    stands_alone: bool = False
    """True where the URL of a single object is a store, too."""
    names_are_keys: bool = False
    """True where an object is one row and its name is the row's key, so that keys are known without a read."""

    @abstractmethod
    def reads(self, name: str) -> bool:
        """Return True where an object of this name is one of this form."""

    def lists(self, name: str) -> bool:
        """Return True where an object of this name, found below a prefix, is an input."""
        return self.reads(name)

    @abstractmethod
    def open(self, url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
        """Return the store of these objects: its columns, and a function that finds the ranges of some of them.

        With `alike`, all objects must have the same columns. Raises UserError where one that is read is not readable.
        """

    def open_by(self, url: str, entries: storage.Entries, options: StoreOptions, *, alike: bool = True) -> Store:
        """Return the store of these objects, opened by the user's `options`; a form may have no use for any.

        Raises UserError as `open` does, and where the form cannot honour an option.
        """
        if told := options.recorded():
            raise UserError(
                f"{url}: {' and '.join(f'--{name}' for name in told)} is for Parquet shards, and the input is "
                f"{self.title}; leave it out"
            )
        return self.open(url, entries, alike=alike)

    def read(
        self,
        ranges: Sequence[Range],
        columns: Sequence[str] | None,
        *,
        wants: Callable[[str], bool] | None = None,
        unchanged: bool = False,
    ) -> pa.Table:
        """Return the rows of `ranges`, in order, with `key` and SHARD, and of the other columns those named, or all.

        With `wants`, only the rows whose key is wanted, without holding the others all at once. `unchanged` says that
        the objects have just been checked. Raises SourceChangedError where an object is not the planned one. A form
        whose objects are single rows reads many at a time in a way of its own; any other has `read_range`.
        """
        return together([self.read_range(each, columns, wants) for each in ranges])

    def read_range(self, piece: Range, columns: Sequence[str] | None, wants: Callable[[str], bool] | None) -> pa.Table:
        """Return the rows of one range as `read` does."""
        raise NotImplementedError(f"{type(self).__name__} reads many ranges at a time")

    def require_unchanged(self, planned: Range) -> None:
        """Raise SourceChangedError where what holds a range is not what was planned."""
        require_unchanged(planned)

    def require_basis(self, planned: Range) -> None:  # noqa: B027 - most forms have nothing beside their objects
        """Raise SourceChangedError where what describes the rows of a store beside its objects is not as planned."""

    @abstractmethod
    def row_names(self, piece: Range) -> list[str]:
        """Return the names by which an object knows its rows where they have no key of their own."""

    @abstractmethod
    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the keys of a store in batches, each with the URL of its object."""

    @abstractmethod
    def has_unique_keys(self, store: Store) -> bool:
        """Return True where no two keys of a store can be equal, so that nobody has to look."""


class File(NamedTuple):
    """File of an output in which each row is a file."""

    key: str
    name: str
    """Name below data/."""
    sha256: str


class WritableForm(StoreForm):
    """A form that outputs can have, too. Its name is one of `FormName`.

    One object stands for a unit: it holds the unit's rows, or lists the files that hold them. It is created exclusively
    and before any file, and carries notes: texts by name.
    """

    ending: str
    """Ending of that object's name, with the dot."""

    @abstractmethod
    def encode(
        self, rows: pa.Table, notes: Mapping[str, str], column: str, extension: str
    ) -> tuple[bytes, Mapping[str, pa.Buffer]]:
        """Return the object that stands for `rows`, and the files that it lists: their content by key.

        Where `names_are_keys`, each row is a file that holds its image in `column` and has the ending `extension`, or
        without one that of its key or content; else there are no files. The same rows give the same bytes.
        """

    @abstractmethod
    def files(self, data: bytes) -> Sequence[File]:
        """Return the files that an object lists; none where it holds the rows itself."""

    @abstractmethod
    def check(self, data: bytes) -> tuple[Mapping[str, str], int]:
        """Read an object whole; return its notes and its number of rows.

        Raises an ArrowException, OSError or ValueError where it is damaged, or not of this form.
        """

    @abstractmethod
    def columns(self, data: bytes, names: Sequence[str]) -> pa.Table:
        """Return those of the named columns that an object has."""

    def features(self, url: str) -> str:
        """Return the features of the object at `url` for the head of a dataset card, as lines of YAML; mostly none.

        A form has them whose readers infer them from the first object, and fail where that has no rows.
        """
        return ""

    @abstractmethod
    def read_columns(self, url: str, names: Sequence[str], *, first: int | None = None) -> pa.Table:
        """Return those of the named columns that the object at `url` has, for all rows or for the `first` ones."""
