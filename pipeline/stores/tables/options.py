"""Options of reading a store, apart from it: how rows are named, and what becomes of columns that some shards lack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError

KeyRule = Literal["own", "by_shard"]
MissingColumns = Literal["fail", "null"]
Extensions = Literal["known", "any"]


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Choices of the user where a store alone does not decide."""

    pictures: tuple[str, ...] = ()
    """Columns that hold pictures, in whatever form; by default those that are found."""
    keys: KeyRule = "own"
    """Names of rows. own: those in the column key, else SHARD#ROW. by_shard: SHARD#KEY, for keys that begin anew in
    each shard."""
    missing_columns: MissingColumns = "fail"
    """Treatment of columns that some shards lack. null: their rows have nulls there."""

    extensions: Extensions = "known"
    """Files of a folder that are images. known: by the ending of their names. any: those whose first bytes are of an
    image, too."""
    gifs: bool = False
    """True where the GIFs of a folder are images."""

    def of_shards(self) -> dict[str, str]:
        """Return what is not the default of the choices that are of Parquet shards alone."""
        said = {"keys": (self.keys, "own"), "missing_columns": (self.missing_columns, "fail")}
        return {name: value for name, (value, default) in said.items() if value != default}

    def recorded(self) -> dict[str, str]:
        """Return what a recipe says of these options: only what is not the default, so that older outputs go on.

        A recipe has the treatment of GIFs from the reading of images.
        """
        return self.of_shards() | ({"extensions": self.extensions} if self.extensions != "known" else {})


STANDARD = StoreOptions()


def check_pair_by(pattern: str) -> None:
    """Raise UserError where the option --pair_by is no regular expression with a group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UserError(f"pair_by {pattern!r}: no regular expression ({error})") from None
    if not groups:
        raise UserError(
            f"pair_by {pattern!r}: has no group, and its first group is the key: put it into (…), such as "
            "`(\\d+)_[a-z]+.png`"
        )
