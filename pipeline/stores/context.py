"""Contexts of stores in a job: what its workers need to read rows, and what its recipe says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.stores.tables.schema import Context, Store


def contexts(sources: Mapping[str, Store]) -> dict[str, Context]:
    """Return the contexts of those sources that have one, by the name of the source."""
    return {name: store.context for name, store in sources.items() if store.context is not None}


def with_contexts(recipe: Mapping[str, Any], sources: Mapping[str, Store]) -> dict[str, Any]:
    """Return a recipe with what the rows of its sources depend on; the same one where no source has a context.

    Columns that were inferred hold for an output. Content beside the rows may change once what is planned is made, as
    the versions of libraries may.
    """
    columns, versions = dict[str, str](), dict[str, str]()
    for name, context in contexts(sources).items():
        columns |= {f"{name} {what}".strip(): said for what, said in context.columns_record().items()}
        versions |= {f"{name} {what}".strip(): said for what, said in context.versions_record().items()}
    made = dict(recipe)
    made |= {"source": columns} if columns else {}
    made |= {"versions": {**made.get("versions", {}), **versions}} if versions else {}
    return made
