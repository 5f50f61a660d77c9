"""Galleries of a page: rows of pictures with their key and scores; the page's script enlarges and compares them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.report.content import Gallery, GalleryRow
from pipeline.report.page.pictures import data_url
from pipeline.report.page.text import attribute, lines, text

MOST_BYTES = 3_000_000
"""Bytes that all pictures of a page take at most, as text inside it."""
MOST_ROWS = 48
"""Rows of a gallery that are shown."""
COMPARED = ("input", "translation")
"""Heads of the two pictures that the script lays over each other."""
_LONGEST_KEY = 160


def galleries_html(galleries: Sequence[Gallery]) -> list[str]:
    """Return each gallery; all have the same share of MOST_BYTES, and say how many rows that has cut."""
    return [_gallery(gallery, MOST_BYTES // len(galleries)) for gallery in galleries]


def _gallery(gallery: Gallery, most_bytes: int) -> str:
    rows, left = list[str](), most_bytes
    for row in gallery.rows[:MOST_ROWS]:
        shown = _row(gallery.heads, row)
        left -= len(shown)
        if left < 0 and rows:
            break
        rows.append(shown)
    note = " ".join(filter(None, [gallery.note, _cut(len(gallery.rows), len(rows), most_bytes)]))
    return lines(
        [
            f'<section class="gallery columns-{min(len(gallery.heads), 6)}">',
            f"<h3>{text(gallery.title)}</h3>",
            '<div class="rows">' if rows else '<p class="note">There are no pictures.</p>',
            *rows,
            "</div>" if rows else "",
            f'<p class="note">{text(note)}</p>' if note else "",
            "</section>",
        ]
    )


def _cut(there: int, shown: int, most_bytes: int) -> str:
    if shown == there:
        return ""
    bound = f"{MOST_ROWS} rows and {most_bytes / 1e6:.1f} MB of pictures"
    return f"{there - shown:,} of {there:,} rows are not shown: a gallery of this page has {bound} at most."


def _row(heads: Sequence[str], row: GalleryRow) -> str:
    key = text(row.caption, _LONGEST_KEY)
    whole = f' title="{attribute(row.caption)}"' if len(row.caption) > _LONGEST_KEY else ""
    scores = "".join(f"<span>{text(name)} <b>{text(value)}</b></span>" for name, value in row.scores)
    return lines(
        [
            '<figure class="row card">',
            '<div class="cells">',
            *_cells(heads, row),
            "</div>",
            f'<figcaption><span class="key"{whole}>{key}</span>{scores}</figcaption>',
            "</figure>",
        ]
    )


def _cells(heads: Sequence[str], row: GalleryRow) -> Iterator[str]:
    for head, picture in zip(heads, row.pictures, strict=True):
        name = f'<span class="head">{text(head)}</span>' if len(heads) > 1 else ""
        if picture is None or isinstance(picture, str):
            yield f'<div class="cell"><span class="none">{text(picture or "none", _LONGEST_KEY)}</span>{name}</div>'
            continue
        height, width = picture.shape[:2]
        kind = ' class="tiny"' if max(height, width) <= 64 else ""
        side = f' data-compared="{compared}"' if (compared := head.partition(" ")[0]) in COMPARED else ""
        alt = attribute(f"{head} of {row.caption}", _LONGEST_KEY)
        yield (
            f'<div class="cell"><img{kind}{side} alt="{alt}" width="{width}" height="{height}" '
            f'src="{data_url(picture)}">{name}</div>'
        )
