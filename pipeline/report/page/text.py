"""Text on a page: escaped, on one line, and without credentials, whatever a key or a message holds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.errors import printable, redact
from pipeline.report.content import shorten

LONGEST = 400
"""Letters of a text that are shown; a longer one loses its middle."""


def plain(value: str, longest: int = LONGEST) -> str:
    """Return text as it may be shown, for whoever escapes it. Text of spaces alone is shown as signs for them."""
    shown = shorten(printable(redact(value)), longest)
    return shown if shown.strip() else shown.replace(" ", "␣")


def text(value: str, longest: int = LONGEST) -> str:
    """Return text as HTML."""
    return escape(plain(value, longest))


attribute = text
"""Same text in an attribute between double quotes."""


def lines(parts: Sequence[str]) -> str:
    """Return the parts that are not empty, each on lines of its own."""
    return "\n".join(part for part in parts if part)
