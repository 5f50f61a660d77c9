from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import printable
from pipeline.report.content import (
    Chart,
    Gallery,
    GalleryRow,
    QuarantineLine,
    Report,
    Table,
    numeric_columns,
    quarantine_heading,
    shorten,
)
from pipeline.report.html import render_report
from pipeline.report.text import render_text


class Contents(HTMLParser):
    """Parser that collects the names of all tags, and the text outside style and script."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] not in ("style", "script"):
            self.texts.append(data)


def test_printable_leaves_nothing_that_steers_a_terminal_or_a_page() -> None:
    assert printable("a\x1b[31m\n\u202eb\udc80\x00é") == r"a\x1b[31m\n\u202eb\udc80\x00é"


@given(st.text(max_size=50), st.integers(1, 20))
def test_shortened_text_keeps_its_ends(text: str, kept: int) -> None:
    short = shorten(text, kept)
    assert len(short) <= max(kept + 1, 1)
    assert text.startswith(short[: (kept + 1) // 2])
    assert short == text or "…" in short


def test_columns_of_numbers_are_told_from_others() -> None:
    rows = [
        ["000000-000001", "1,024", "18.4 dB", "6.2 images/s", "3a", "1e-3", "x"],
        ["b", "-", "inf", "7 %", "", "", ""],
    ]
    table = Table(title="t", columns=list("abcdefg"), rows=rows)
    assert numeric_columns(table) == [False, True, True, True, True, True, False]
    assert numeric_columns(Table(title="t", columns=["a", "b"], rows=[])) == [False, False]


def test_a_table_with_ragged_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 of 'units' has 1 cells for 2 columns"):
        Table(title="units", columns=["a", "b"], rows=[["1", "2"], ["1"]])


def test_fewer_in_quarantine_than_are_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="quarantine_total is 0, but 1 lines"):
        Report(title="t", status="complete", quarantine=[QuarantineLine(key="k", stage="s", reason="r", message="m")])


@pytest.mark.parametrize(
    ("shown", "total", "heading"),
    [
        (0, 0, "No input was quarantined"),
        (1, 1, "1 input quarantined"),
        (2, 2, "2 inputs quarantined"),
        (2, 1234, "1,234 inputs quarantined, 2 shown"),
    ],
)
def test_the_quarantine_says_how_many_it_shows(shown: int, total: int, heading: str) -> None:
    line = QuarantineLine(key="k", stage="decode", reason="truncated", message="m")
    report = Report(title="t", status="complete", quarantine=[line] * shown, quarantine_total=total)
    assert quarantine_heading(report) == heading
    assert heading in render_report(report)
    assert total == 0 or heading in render_text(report)


# The renderings.

HOSTILE = "<script>alert('1')</script>\x1b[31m\"&\u202e\udc80"


@pytest.fixture
def hostile() -> Report:
    return Report(
        title=HOSTILE,
        status=HOSTILE,
        subtitle=HOSTILE,
        facts=[(HOSTILE, HOSTILE)],
        tables=[Table(title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]])],
        quarantine=[QuarantineLine(key=HOSTILE, stage=HOSTILE, reason=HOSTILE, message=HOSTILE)],
        quarantine_total=1,
        reasons={HOSTILE: 1},
        notes=[HOSTILE],
        galleries=[
            Gallery(
                title=HOSTILE,
                heads=[HOSTILE],
                rows=[
                    GalleryRow(caption=HOSTILE, pictures=[np.zeros((4, 4, 3), np.uint8)], scores=[(HOSTILE, HOSTILE)])
                ],
                note=HOSTILE,
            )
        ],
        charts=[
            Chart(
                title=HOSTILE,
                kind="scatter",
                x_title=HOSTILE,
                y_title=HOSTILE,
                series={HOSTILE: [(0, 1)], "other": [(1, 2)]},
                labels={HOSTILE: [HOSTILE]},
                note=HOSTILE,
                section=HOSTILE,
            )
        ],
        provenance=[(HOSTILE, HOSTILE)],
        settings=[(HOSTILE, HOSTILE)],
        command=HOSTILE,
    )


def test_html_shows_hostile_text_as_text(hostile: Report) -> None:
    document = render_report(hostile)
    contents = Contents(document)
    assert contents.tags.count("script") == 1  # the page's own
    assert contents.texts.count(printable(HOSTILE)) == 27  # each place where it is whole, and the title of the window
    assert document.encode()


def test_html_is_one_file_that_loads_nothing() -> None:
    row = GalleryRow(caption="a", pictures=[np.zeros((4, 4, 3), np.uint8)])
    gallery = Gallery(title="g", heads=["input"], rows=[row])
    document = render_report(Report(title="t", status="complete", galleries=[gallery]))
    assert 'src="data:image/webp;base64,' in document
    assert "http:" not in document
    assert "https:" not in document
    assert "<img" not in render_report(Report(title="t", status="failed"))


@pytest.mark.parametrize(("status", "mood"), [("complete", "good"), ("failed", "bad"), ("stopped", "open")])
def test_the_status_has_its_colour(status: str, mood: str) -> None:
    assert f'class="status {mood}">{status}<' in render_report(Report(title="t", status=status))


def test_text_is_aligned() -> None:
    report = Report(
        title="Translation",
        status="complete",
        subtitle="label map to photograph",
        facts=[("inputs", "80"), ("duration", "12 s")],
        tables=[Table(title="Scores", columns=["prediction", "L1"], rows=[["model", "0.08"], ["mean", "0.160"]])],
        quarantine=[QuarantineLine(key="a.jpg", stage="decode", reason="truncated", message="ends after 3 bytes")],
        quarantine_total=2,
    )
    assert render_text(report) == (
        "Translation: complete\n"
        "label map to photograph\n"
        "\n"
        "  inputs    80\n"
        "  duration  12 s\n"
        "\n"
        "Scores\n"
        "  prediction     L1\n"
        "  model        0.08\n"
        "  mean        0.160\n"
        "\n"
        "2 inputs quarantined, 1 shown\n"
        "  a.jpg  decode  truncated  ends after 3 bytes"
    )


def test_text_is_safe_on_a_terminal(hostile: Report) -> None:
    assert all(line.isprintable() for line in render_text(hostile).splitlines())


def test_text_of_a_bare_report_is_one_line() -> None:
    assert render_text(Report(title="Translation", status="failed")) == "Translation: failed"


def test_a_text_that_has_a_width_keeps_it_and_its_numbers() -> None:
    rows = [["a" * 70, "12,345", "b" * 100], ["c", "1", "d"]]
    report = Report(
        title="T",
        status="s",
        facts=[("name", "v" * 200)],
        tables=[Table(title="t", columns=["x", "n", "y"], rows=rows)],
    )
    for width in (60, 80):
        lines = render_text(report, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert any("12,345" in line for line in lines)
    assert max(map(len, render_text(report).splitlines())) > 100
