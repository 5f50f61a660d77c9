"""Opening of stores, and reading of their rows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import UserError
from pipeline.stores import versions
from pipeline.stores.forms import naming, parquet
from pipeline.stores.forms.folder import Folder
from pipeline.stores.forms.registry import FORMS, form_of, form_of_ranges, inputs_among, is_shown, passed_over_beside
from pipeline.stores.mark import marked_segments
from pipeline.stores.tables.options import STANDARD, StoreOptions
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import SourceChangedError, Store

log = logging.getLogger("transdomain")


_STAT_THREADS = 16
_UNIT = re.compile(r"(^|/)\d{6}-\d{6}\.(parquet|tar)$")


def open_store(url: str, *, alike: bool = True, options: StoreOptions = STANDARD) -> Store:
    """Open the store at `url`: a prefix, one file, or all prefixes and files that match a `*` in it.

    Its columns are those of every shard; where the shards need not be `alike`, those that they have in common. Raises
    UserError, saying what to do, where nothing exists, nothing is an image or a Parquet shard, the columns of the
    shards do not go together, or the store is the unfinished output of another job. Raises StorageError where a folder
    in it cannot be listed.
    """
    url = storage.escaped(storage.absolute(url))
    if "**" in url:
        raise UserError(f"{url}: what is below a prefix is read at any depth already; use a single *, or none")
    single = form_of(url)
    if single and single.stands_alone and "*" not in url and (entry := storage.stat_file(url)) is not None:
        entries = storage.Entries.of([entry._replace(name=url.rpartition("/")[2])])
        return single.open_by(url, entries, options, alike=alike)
    listing = _list(url)
    entries, tally, root = listing.entries, listing.tally, url
    base = _pattern(url)[0] if "*" in url else url
    if entries.has("_transdomain/job.json"):
        _require_finished(url, entries)
        entries, root = _current_of_output(url, entries), f"{url}/data"
    else:
        entries = _current_of_data(url, base, entries)
        if not len(entries):
            forms = "images, of Parquet shards or of WebDataset tars"
            raise UserError(f"{url}: nothing there; give a folder of {forms}{_besides(tally)}")
    nested = [] if root != url else naming.roots_of_outputs(entries)
    nested = [prefix for prefix in nested if versions.FOLDER not in prefix]
    for prefix in nested:
        _require_finished(f"{base}/{prefix}".rstrip("/"), entries.inside(prefix) if prefix else entries)
        if len(entries[entries.below(f"{prefix}{versions.MARKS}")]):
            raise UserError(f"{url}: holds {prefix}, which has later versions; give {base}/{prefix.rstrip('/')} itself")
    if len(nested) > 1 and "*" not in url:
        raise _several(url, nested)
    form, inputs, describing = inputs_among(entries, tally)
    if not len(inputs):
        raise _no_input(url, listing)
    for other in FORMS:
        count, example = tally.counts.get(passed_over_beside(other, form), (0, ""))
        if count:
            log.warning(
                "%s: %d %s, such as %s, stand beside %s and are not read", url, count, other.title, example, form.title
            )
    store = form.open_by(url, inputs, options, alike=alike)
    if len(describing) and isinstance(form, Folder):
        store = form.described(store, describing)
    passed_over = (*storage.passed_over(tally), *store.passed_over)
    return replace(store, root=root, passed_over=passed_over, links=tally.followed)


def _current_of_output(url: str, entries: storage.Entries) -> storage.Entries:
    """Return the data that readers are to see among all entries of an output, named relative to data/."""
    data = entries.inside("data/")
    if not len(entries[entries.below(versions.MARKS)]):
        return data
    newest = versions.current(versions.marked(url))
    for number in set(newest.values()):
        _require_finished(versions.root_of(url, number), entries.inside(f"{versions.FOLDER}{number:06d}/"))
    _say_current(url, newest)
    return versions.current_data(data, newest, lambda n: entries.inside(f"{versions.FOLDER}{n:06d}/data/"))


def _current_of_data(url: str, base: str, entries: storage.Entries) -> storage.Entries:
    """Return the entries that readers are to see, where `url` is data/ of an output or matches what is below it.

    `base` is the listed prefix.
    """
    output, below = _output_of(base)
    # Elsewhere, nobody need be allowed to list what is beside a folder data.
    is_ours = output and (not len(entries) or _UNIT.search(entries[0].name))
    newest = versions.current(versions.marked(output)) if is_ours else {}
    if not newest:
        return entries
    _say_current(output, newest)

    def listed(number: int) -> storage.Entries:
        return _list(f"{versions.root_of(output, number)}{url[len(output) :]}").entries

    return versions.current_data(entries, newest, listed, below)


def _output_of(prefix: str) -> tuple[str, str]:
    """Return the prefix that would be the output, and the folder in its data/, where a prefix is in a folder data."""
    output, _, below = f"{prefix}/".rpartition("/data/")
    return output, below


def _say_current(url: str, newest: Mapping[str, int]) -> None:
    for number in sorted(set(newest.values())):
        labels = [label for label, found in newest.items() if found == number]
        log.info("%s: version %d%s is read", url, number, versions.of_slots(labels))


def _require_finished(url: str, entries: storage.Entries) -> None:
    """Raise UserError where the output of a job is not complete: no mark, or one with another number of segments.

    The number differs after a run that was killed while another one planned.
    """
    mark = storage.read_if_there(f"{url}/_SUCCESS") if entries.has("_SUCCESS") else None
    planned = sum(not storage.is_leftover(entry.name) for entry in entries[entries.below("_transdomain/plan/")])
    if mark is None or marked_segments(mark) != planned:
        raise UserError(f"{url}: the job that writes this store has not finished; run its command again first")


def _no_input(url: str, listing: storage.Listing) -> UserError:
    marks = pc.ends_with(listing.entries.names, "/_SUCCESS")
    if children := sorted({name.split("/")[0] for name in listing.entries.names.filter(marks).to_pylist()}):
        return _several(url, children)
    none = _listed_out([f"no {form.one}" for form in FORMS])
    return UserError(f"{url}: {none} below it{_besides(listing.tally)}")


def _listed_out(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _several(url: str, roots: Sequence[str]) -> UserError:
    stores = ", ".join(f"{url}/{root.rstrip('/')}" for root in roots[:5])
    return UserError(f"{url}: holds several stores; name one, or all by a *: {stores}")


def _besides(tally: storage.Tally) -> str:
    """Return a few words about the entries that were passed over."""
    found = [f"{each.count} {each.reason}, such as {each.example}" for each in storage.passed_over(tally)[:3]]
    return f"; passed over are {'; '.join(found)}" if found else ""


def _list(url: str) -> storage.Listing:
    return _list_matching(url) if "*" in url else storage.list_inputs(url)


def _list_matching(url: str) -> storage.Listing:
    """List every object that matches or is below a matching prefix, named relative to the part with the first `*`."""
    base, wanted = _pattern(url)
    return storage.list_inputs(
        base,
        wants=lambda name: _matches(name.split("/"), wanted),
        enters=lambda name: all(map(_fits, name.split("/"), wanted)),
    )


def is_listed(url: str, store: Store) -> bool:
    """Return True where an object at `url` would be listed as part of a store, through whatever links lead there."""
    root = store.root or store.url
    base, wanted = _pattern(root) if "*" in root else (root, [])
    target = storage.real(url)
    folders = [("", storage.real(base)), *((f"{name}/", folder) for name, folder in store.links.items())]
    names = [before + target[len(folder) + 1 :] for before, folder in folders if target.startswith(f"{folder}/")]
    return any(is_shown(name) and _matches(name.split("/"), wanted) for name in names)


def _pattern(url: str) -> tuple[str, list[str]]:
    """Return the prefix before the first part with a `*`, and the list of that part and those after it."""
    base = url[: url.index("*")].rpartition("/")[0]
    return base, url[len(base) + 1 :].split("/")


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(parts) >= len(wanted) and all(map(_fits, parts, wanted))


def _fits(part: str, wanted: str) -> bool:
    """Return True where a part of a name matches `wanted`, in which a `*` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("*"))), part, re.DOTALL) is not None


def read_rows(
    ranges: Sequence[Range],
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
) -> pa.Table:
    """Return the rows of `ranges`, in order, with the named `columns` (`key` and SHARD always) or all of them.

    With `wants`, only rows with a wanted key are returned, and files with other keys are not fetched. Raises
    SourceChangedError where a shard has changed since planning, StorageError where it cannot be read.
    """
    return form_of_ranges(ranges).read(ranges, columns, wants=wants)


def read_unchanged_rows(
    ranges: Sequence[Range],
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
) -> tuple[pa.Table, list[tuple[str, Range, str]]]:
    """Return what `read_rows` gives for the shards that are as planned, and the rows of all other shards.

    Each of the latter comes as its key, its range and the reason why it cannot be read; its key is the name that its
    shard gives the row. Where no shard is left, the table has no rows, and the columns of `schema`.
    """
    shards, form = {r.url: r for r in ranges}, form_of_ranges(ranges)
    if ranges and (how := _change(form.require_basis, ranges[0])):
        changes = dict.fromkeys(shards, how)
    else:
        with ThreadPoolExecutor(max(1, min(_STAT_THREADS, len(shards)))) as threads:
            found = threads.map(lambda planned: _change(form.require_unchanged, planned), shards.values())
            changes = dict(zip(shards, found, strict=True))
    left = [r for r in ranges if not changes[r.url]]
    lost = [(key, r, changes[r.url]) for r in ranges if changes[r.url] for key in form.row_names(r)]
    if wants is not None and form.names_are_keys:
        lost = [(key, r, why) for key, r, why in lost if wants(key)]
    if left:
        return form.read(left, columns, wants=wants, unchanged=True), lost
    row_schema = ranges[0].row_schema if ranges else None
    return parquet.no_rows(row_schema.schema if row_schema else schema, columns), lost


def _change(require: Callable[[Range], None], planned: Range) -> str:
    """Return what happened, since it was planned, to what `require` looks at for a range; empty where nothing did."""
    try:
        require(planned)
    except SourceChangedError as error:
        return str(error)
    return ""
