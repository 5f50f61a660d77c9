"""Columns of many shards as one schema: which shards fit each other, and what to say of those that do not. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.stores.tables import kinds, pictures
from pipeline.stores.tables.features import Features, class_names, differing_classes, features_of, united, with_features
from pipeline.stores.tables.options import MissingColumns
from pipeline.stores.tables.schema import as_read, image_columns

_MOST_SAID = 5


class DifferError(Exception):
    """Shard whose columns do not go with those of the others; says how, without the shard's name."""

    def __init__(self, how: str, advice: str = "") -> None:
        super().__init__(how)
        self.advice = advice
        """What to do, as the end of a sentence, where there is something."""


@dataclass
class Merged:
    """Schema of the shards that were added, which holds the values of all of them unchanged."""

    schema: pa.Schema
    """Columns and features of the first shard, then of all."""
    where: str
    """Name of the first shard."""
    missing: MissingColumns = "fail"
    shards: int = 1
    """Number of shards that were added, the first one included."""
    varies: bool = False
    """True once a shard has them in another type or order, or lacks one."""
    lacking: dict[str, tuple[int, str]] = field(default_factory=dict)
    """How many shards lack a column, and one that does; they have null there."""
    _of: dict[str, str] = field(default_factory=dict)
    """Shard that the type of a column is of, where it is not the first one."""
    _added: list[str] = field(default_factory=list)
    """Columns that the first shard lacks."""
    changed: set[str] = field(default_factory=set)
    """Columns that are not of one type in all shards."""

    def add_alike(self, where: str) -> None:
        """Add a shard that has the columns of the first one."""
        self.shards += 1
        self._count_lacking(self._added, where)

    def add(self, other: pa.Schema, where: str) -> None:
        """Add a shard by its columns as its rows come. Raises DifferError where they do not go with the others."""
        if other == self.schema and other.metadata == self.schema.metadata:
            self.shards += 1
            return
        theirs = {f.name: f for f in other}
        mine = {f.name: f for f in self.schema}
        if classes := differing_classes(features_of(self.schema), features_of(other)):
            raise DifferError(self._said([f"{name}: {how}" for name, how in classes.items()]))
        self._check_missing([n for n in mine if n not in theirs], [n for n in theirs if n not in mine], theirs)
        found, faults = list[pa.Field](), list[str]()
        for name, own in mine.items():
            one = None
            if name in theirs:
                one = self._common(own, theirs[name])
                if one is None:
                    since = f", as in {self._of[name]}" if name in self._of else ""
                    faults.append(f"{name}: {theirs[name].type} instead of {own.type}{since}")
                    continue
                if one.type != own.type:
                    self._of[name] = where
                if not one.type == own.type == theirs[name].type:
                    self.changed.add(name)
            else:
                one = own.with_nullable(True)
            found.append(one)
        if faults:
            raise DifferError(self._said(faults), "; write each column in one type")
        for name, more in theirs.items():
            if name not in mine:
                found.append(more.with_nullable(True))
                self._added.append(name)
                self._of[name] = where
                self.lacking[name] = self.shards, self.where
        self.shards += 1
        self._count_lacking([name for name in mine if name not in theirs], where)
        merged = pa.schema(found)
        self.varies |= other != merged or merged != self.schema
        self._take(merged, other)

    def keep_common(self, other: pa.Schema) -> None:
        """Add a shard, and keep the columns that both have, in types and with classes that go together."""
        theirs = {f.name: f for f in other}
        differing = differing_classes(features_of(self.schema), features_of(other))
        both = [(own, theirs[own.name]) for own in self.schema if own.name in theirs and own.name not in differing]
        pairs = [(own, their, self._common(own, their)) for own, their in both]
        kept = [(own, their, one) for own, their, one in pairs if one is not None]
        self.shards += 1
        self.varies |= any(own != one or their != one for own, their, one in kept)
        names = [one.name for *_, one in kept]
        self.varies |= [name for name in other.names if name in names] != names
        self.changed |= {one.name for own, their, one in kept if not own.type == their.type == one.type}
        self._take(pa.schema([one for *_, one in kept]), other)

    def filled(self) -> list[str]:
        """Return a phrase for each column that some shards lack."""
        return [
            f"{name} in {count} of {self.shards} shards, such as {one}" for name, (count, one) in self.lacking.items()
        ]

    def _take(self, merged: pa.Schema, other: pa.Schema) -> None:
        """Take a schema, with the features of all shards that are true of its columns."""
        features = united(features_of(self.schema), features_of(other))
        false = {name for name in self.changed if not _is_of_any_type(features.get(name))}
        self.schema = with_features(merged, {name: said for name, said in features.items() if name not in false})

    def _common(self, own: pa.Field, theirs: pa.Field) -> pa.Field | None:
        if image_columns(pa.schema([own])) and not image_columns(pa.schema([theirs])) and pictures.form_of(theirs):
            theirs = pictures.as_pictures(theirs)
        return kinds.common_field(own, theirs)

    def _check_missing(self, missing: list[str], more: list[str], theirs: dict[str, pa.Field]) -> None:
        if not missing and not more:
            return
        lacked = [f"{name}: {self.schema.field(name).type} missing" for name in missing]
        lacked += [f"{name}: {theirs[name].type} unexpected" for name in more]
        shown = image_columns(self.schema), image_columns(pa.schema(list(theirs.values())))
        if without := [*(n for n in missing if n in shown[0]), *(n for n in more if n in shown[1])]:
            raise DifferError(f"{self._said(lacked)}; {', '.join(without)} holds pictures, which all shards need")
        if self.missing == "fail":
            named = ", ".join([*missing, *more][:_MOST_SAID])
            advice = f"--missing_columns null takes them together, with nulls in {named} where a shard lacks it"
            raise DifferError(self._said(lacked), f"; {advice}")

    def _count_lacking(self, names: list[str], where: str) -> None:
        for name in names:
            count, one = self.lacking.get(name, (0, where))
            self.lacking[name] = count + 1, one

    @staticmethod
    def _said(faults: list[str]) -> str:
        more = len(faults) - _MOST_SAID
        return "; ".join(faults[:_MOST_SAID]) + (f"; and {more} more" if more > 0 else "")


def _is_of_any_type(feature: Any) -> bool:
    """Return True where a feature says more of a column than its type: names of classes, or that it is a picture."""
    return bool(class_names(feature)) or (isinstance(feature, dict) and feature.get("_type") == "Image")


def names_more_classes(features: Features, before: Features) -> bool:
    """Return True where `features` name classes of a column whose classes were not named `before`."""
    return any(class_names(feature) != class_names(before.get(name)) for name, feature in features.items())


def columns_as_read(schema: pa.Schema, wanted: frozenset[str]) -> list[pa.Field]:
    """Return the columns of a shard as its rows come, those that are `wanted` as pictures in that form."""
    return [
        pictures.as_pictures(as_read(field)) if field.name in wanted and pictures.form_of(field) else as_read(field)
        for field in schema
    ]
