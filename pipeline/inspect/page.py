"""Report on what was found: a few tables for a terminal, and the same with pictures and charts for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pipeline import command
from pipeline.engine.estimate.tables import size_text
from pipeline.inspect.findings import Findings
from pipeline.inspect.groups import Equal
from pipeline.inspect.job import Inspection
from pipeline.report.content import Chart, Gallery, GalleryRow, Report, Table

T = TypeVar("T")

_MOST_SIZES = 10
_MOST_LINES = 20
_MOST_PICTURES = 24


def report_of(found: Inspection) -> Report:
    """Return the report on all splits together."""
    splits = found.splits
    images = sum(each.images for each in splits)
    return Report(
        title="Content",
        status="looked through",
        subtitle=", ".join(dict.fromkeys(each.url for each in splits)),
        facts=list(_facts(found)),
        tables=[
            *([_of_splits(splits)] if len(splits) > 1 else []),
            _of_columns(splits),
            *_histograms(splits, images),
            *_of_equal(found),
            *_of_faults(splits),
            *_of_passed_over(splits),
        ],
        galleries=list(_gallery(splits)),
        command=command.line(),
        quarantine_total=None,
    )


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    splits = found.splits
    images, rows = (sum(getattr(each, name) for each in splits) for name in ("images", "rows"))
    yield "images", f"{images:,}" + (f" in {rows:,} rows" if images != rows else "")
    yield "form", ", ".join(f"{count:,} {form}" for form, count in _forms(splits).items())
    if all(each.bytes for each in splits):
        yield "encoded bytes", _bytes_line(splits)
    looked, decoded, bad = (sum(getattr(each, name) for each in splits) for name in ("looked", "decoded", "bad"))
    yield "headers read", f"{looked:,}" + (_drawn(looked, images, "--sample all"))
    yield "decoded", f"{decoded:,}" + (_drawn(decoded, images, "--decode all"))
    yield "not decodable", f"{bad:,} of them"
    if found.contents is None:
        yield "duplicates", "not looked for (--duplicates reads every byte)"
    else:
        groups = found.contents.groups
        yield "duplicates", f"{found.contents.repeated:,} images repeat one of {groups:,} others" if groups else "none"
    if found.keys is not None:
        yield "in two splits", _leakage(found.contents, found.keys)


def _leakage(contents: Equal | None, keys: Equal) -> str:
    said = [f"{count:,} keys" if (count := sum(keys.shared.values())) else "no key"]
    if contents is None:
        said.append("contents not compared (--duplicates)")
    else:
        said.append(f"{count:,} contents" if (count := sum(contents.shared.values())) else "no content")
    return ", ".join(said)


def _forms(splits: Sequence[Findings]) -> dict[str, int]:
    counted = Counter[str]()
    for each in splits:
        counted[each.form] += each.shards
    return dict(counted)


def _drawn(count: int, of: int, option: str) -> str:
    return "" if count >= of else f" of {of:,}, drawn at random; {option} takes all"


def _bytes_line(splits: Sequence[Findings]) -> str:
    each = [split.bytes for split in splits if split.bytes]
    about = "" if all(one.exact for one in each) else "about "
    least, largest = min(one.least for one in each), max(one.largest for one in each)
    median = f", median {size_text(each[0].median)}" if len(each) == 1 else ""
    total = size_text(sum(one.total for one in each))
    return f"{about}{total}; an image {size_text(least)} to {size_text(largest)}{median}"


def _of_splits(splits: Sequence[Findings]) -> Table:
    rows = [
        [each.name, f"{each.images:,}", f"{each.shards:,}", size_text(each.bytes.median) if each.bytes else "–",
         size_text(each.bytes.total) if each.bytes else "–", f"{each.bad:,}"]
        for each in splits
    ]  # fmt: skip
    return Table(title="Splits", columns=["split", "images", "objects", "median", "total", "bad"], rows=rows)


def _of_columns(splits: Sequence[Findings]) -> Table:
    """Return the columns of all splits; nulls are added up, and a type that differs is named with its split."""
    rows = dict[tuple[str, str], list[tuple[str, int | None]]]()
    for each in splits:
        for column in each.columns:
            rows.setdefault((column.name, column.type), []).append((each.name, column.nulls))
    cells = []
    for (name, kind), found in rows.items():
        nulls = "–" if any(count is None for _, count in found) else f"{sum(count or 0 for _, count in found):,}"
        where = "" if len(found) == len(splits) else f" (in {', '.join(split for split, _ in found)})"
        cells.append([name, kind + where, nulls])
    return Table(title="Columns (nulls as far as they are recorded)", columns=["column", "type", "nulls"], rows=cells)


def _histograms(splits: Sequence[Findings], images: int) -> Iterator[Table]:
    looked = sum(each.looked for each in splits)
    of = "" if looked >= images else f", of {looked:,} that were looked at"
    yield _shares(f"Formats{of}", "format", _sum(splits, lambda each: each.formats), str)
    yield _shares(f"Channels and depth, as stored{of}", "channels", _sum(splits, lambda each: each.kinds), str)
    recorded = all(each.sizes_recorded for each in splits)
    of = ", as recorded" if recorded else of
    sizes = _sum(splits, lambda each: each.sizes)
    yield _shares(f"Sizes in pixels{of}", "width × height", sizes, _size_in_pixels, "rows" if recorded else "images")


def _size_in_pixels(each: tuple[int, int]) -> str:
    return f"{each[0]:,} × {each[1]:,}" if each[0] else "not known"


def _sum(splits: Sequence[Findings], counter: Callable[[Findings], Counter[T]]) -> Counter[T]:
    whole = Counter[T]()
    for each in splits:
        whole.update(counter(each))
    return whole


def _shares(title: str, what: str, counted: Mapping[T, int], shown: Callable[[T], str], of: str = "images") -> Table:
    """Return a table of the most frequent values, and one line for all others; a page has bars in its place."""
    total = sum(counted.values())
    most = Counter(counted).most_common()
    found = [(shown(value), count) for value, count in most[:_MOST_SIZES]]
    if rest := most[_MOST_SIZES:]:
        found.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    rows = [[name, f"{count:,}", f"{count / total:.1%}", _bar(count / total)] for name, count in found]
    chart = Chart(
        title=title,
        kind="bars",
        x_title=what,
        y_title=of,
        series={of: [(i, count) for i, (_, count) in enumerate(found)]},
        labels={of: [f"{count:,} ({count / total:.1%})" for _, count in found]},
        categories=[name for name, _ in found],
        section="Formats and sizes",
    )
    return Table(title=title, columns=[what, of, "share", ""], rows=rows, chart=chart if rows else None)


def _bar(share: float) -> str:
    return "█" * max(1, round(share * 24))


def _of_equal(found: Inspection) -> Iterator[Table]:
    for equal, examples, what in (
        (found.contents, found.content_examples, "Images of equal bytes"),
        (found.keys, found.key_examples, "Equal keys"),
    ):
        if equal is None:
            continue
        if rows := list(_shared(equal, found.splits)):
            yield Table(title=f"{what}, between splits", columns=["split", "and split", "in both"], rows=rows)
        if examples:
            yield Table(
                title=f"{what}, some of them", columns=["example"], rows=[[line] for line in examples[:_MOST_LINES]]
            )


def _shared(equal: Equal, splits: Sequence[Findings]) -> Iterator[list[str]]:
    for (one, two), count in sorted(equal.shared.items()):
        yield [splits[one].name, splits[two].name, f"{count:,}"]


def _of_faults(splits: Sequence[Findings]) -> Iterator[Table]:
    reasons = _sum(splits, lambda each: each.faults)
    if not reasons:
        return
    rows = [[reason, f"{count:,}"] for reason, count in reasons.most_common()]
    yield Table(title="Images that do not decode, by reason", columns=["reason", "images"], rows=rows)
    examples = [[fault.key, fault.reason, fault.message] for each in splits for fault in each.examples][:_MOST_LINES]
    yield Table(title="Images that do not decode, some of them", columns=["key", "reason", "message"], rows=examples)


def _of_passed_over(splits: Sequence[Findings]) -> Iterator[Table]:
    rows = [[f"{each.count:,}", each.reason, each.example] for split in splits for each in split.passed_over]
    if rows:
        yield Table(title="Not read", columns=["objects", "reason", "example"], rows=rows)


def _gallery(splits: Sequence[Findings]) -> Iterator[Gallery]:
    """Yield some images of each split, in turn, where any were decoded."""
    columns = list(dict.fromkeys(column for each in splits for column in each.pictures))
    most = -(-_MOST_PICTURES // len(splits))
    rows = list[GalleryRow]()
    for each in splits:
        for key, pictures in list(each.sheet.items())[:most]:
            caption = key if not each.name or key.startswith(f"{each.name}/") else f"{each.name}: {key}"
            rows.append(GalleryRow(caption=caption, pictures=[pictures.get(column) for column in columns]))
    if rows:
        images = sum(each.images for each in splits)
        note = (
            ""
            if len(rows) * len(columns) >= images
            else f"{len(rows):,} {'images' if len(columns) == 1 else 'rows'}, drawn at random among those that decode."
        )
        yield Gallery(title="Some images", heads=columns, rows=rows, note=note)
