"""The forms that there are, and which objects below a prefix are inputs of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipeline import storage
from pipeline.stores.forms import naming
from pipeline.stores.forms.folder import Folder
from pipeline.stores.forms.form import StoreForm, WritableForm
from pipeline.stores.forms.metadata import finding
from pipeline.stores.forms.parquet import Parquet
from pipeline.stores.forms.saved import SavedDataset
from pipeline.stores.forms.trees import Trees
from pipeline.stores.forms.webdataset import WebDataset
from pipeline.stores.tables.ranges import Range

FORMS: list[StoreForm] = [Parquet(), WebDataset(), SavedDataset(), Folder()]
"""In the order in which a prefix that holds several is taken for one; the last also where it holds none."""

COMPOSED: list[StoreForm] = [Trees()]
"""Forms of what no prefix holds: a job makes their stores of others."""


def form_of(name: str) -> StoreForm | None:
    """Return the form that reads an object of this name; None where none does."""
    return next((form for form in (*FORMS, *COMPOSED) if form.reads(name)), None)


def form_named(name: str) -> StoreForm:
    """Return the form of this name."""
    return next(form for form in (*FORMS, *COMPOSED) if form.name == name)


def writable_forms() -> list[WritableForm]:
    """Return the forms that outputs can have."""
    return [form for form in FORMS if isinstance(form, WritableForm)]


def writable_form(name: str) -> WritableForm:
    """Return the form of this name, which outputs can have."""
    return next(form for form in writable_forms() if form.name == name)


def form_of_ranges(ranges: Sequence[Range]) -> StoreForm:
    """Return the form that reads these ranges, which are of one store."""
    return (form_of(ranges[0].shard) if ranges else None) or FORMS[-1]


def is_shown(name: str) -> bool:
    """Return True where an object of this name would be an input, if it is of any form."""
    if naming.is_hidden(name):
        return False
    form = form_of(name)
    return form is None or form.lists(name)


def inputs_among(
    entries: storage.Entries, tally: storage.Tally, more: Callable[[storage.Entries], np.ndarray] | None = None
) -> tuple[StoreForm, storage.Entries, storage.Entries]:
    """Return the form of a store, its input objects, and the files that describe these; count everything else.

    Among image files, or where there is no input, `more` says which files of no form are images, too, [N] bool; it
    counts the others.
    """
    for root in naming.roots_of_outputs(entries):
        for name in naming.OF_AN_OUTPUT:
            kept = entries.below(f"{root}{name}/")
            if kept.start < kept.stop:
                entries = entries.take(np.delete(np.arange(len(entries)), kept))
    if (repeating := finding.of_tars(entries)).any():
        for entry in entries.take(repeating):
            tally.add(finding.OF_TARS, entry.name)
        entries = entries.take(~repeating)
    describing = finding.of_images(entries)
    described, entries = entries.take(describing), entries.take(~describing) if describing.any() else entries
    found = ((form, _listed(form, entries)) for form in FORMS)
    form, ours = next(
        ((form, listed) for form, listed in found if listed.any()), (FORMS[-1], np.zeros(len(entries), bool))
    )
    known = ours
    if more is not None and form is FORMS[-1] and not ours.all():
        left = np.flatnonzero(~ours)
        left = left[np.fromiter(map(_is_of_none, _names(entries.take(left))), bool, len(left))]
        ours, known = ours.copy(), ours.copy()
        ours[left], known[left] = more(entries.take(left)), True
    for entry in () if known.all() else entries.take(~known):
        if other := form_of(entry.name):
            tally.add(passed_over_beside(other, form) if other.lists(entry.name) else other.unlisted, entry.name)
        elif not naming.is_marker(entry.name):
            tally.add(naming.by_ending(entry.name, tally), entry.name)
    if not form.names_are_keys:
        for entry in described:
            tally.add(f"metadata of images beside {form.title}", entry.name)
        described = described[:0]
    return form, entries if ours.all() else entries.take(ours), described


def _listed(form: StoreForm, entries: storage.Entries) -> np.ndarray:
    """Return, for each entry, whether it is an input of a form, [len(entries)] bool."""
    return np.fromiter(map(form.lists, _names(entries)), bool, len(entries))


def _names(entries: storage.Entries) -> Iterator[str]:
    return (name for batch in entries.name_batches() for name in batch)


def _is_of_none(name: str) -> bool:
    """Return True where no form reads an object of this name, and none of the tools that write beside data wrote it."""
    return form_of(name) is None and not naming.is_marker(name)


def passed_over_beside(other: StoreForm, form: StoreForm) -> str:
    """Return the reason why objects of another form are no inputs of a store."""
    return f"{other.title} beside {form.title}"
