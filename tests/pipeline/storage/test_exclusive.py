"""Ways to create an object exclusively, as the document tells them."""

from __future__ import annotations

from pathlib import Path

from pipeline.storage.exclusive import WAYS

ROOT = Path(__file__).parents[3]


def test_the_document_has_every_way_and_what_was_tried() -> None:
    lines = (ROOT / "docs/promises.md").read_text().splitlines()
    for way in WAYS:
        url = f"`{way.url}`" if way.url else "no output of a job"
        assert f"| {way.name} | {url} | {way.how} | {way.tried} |" in lines
