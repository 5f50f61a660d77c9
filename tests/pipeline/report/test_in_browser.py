"""Reports in Debian's Chromium: each kind, on a phone and on a screen, light and dark, by its own script and policy."""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import augment, evaluate, inspect, pack, translate
from pipeline import images, storage
from pipeline.report import throughput
from pipeline.report.content import Gallery, GalleryRow, QuarantineLine, Report
from pipeline.report.html import render_report
from pipeline.report.page.text import plain
from pipeline.training.checkpoints.samples import Samples
from pipeline.training.model.directions import learned_directions
from pipeline.training.record import TrainResult
from pipeline.training.report import training_report
from tests import corpus
from tests.pipeline.training import small

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = "needs Chromium (Debian: apt-get install chromium) and playwright (pip install playwright)"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NEEDED)

HOSTILE = "<script>document.title='run'</script>.jpg"
KINDS = ["train", "translate", "inspect"]
KINDS += [pytest.param(kind, marks=pytest.mark.long) for kind in ("pack", "augment", "evaluate")]  # type: ignore[list-item]
LETTERS = """
[...document.querySelectorAll("svg text")].map((text) => {
  const turned = text.getScreenCTM();
  return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(turned.a, turned.b);
})
"""
"""Sizes of the letters of all charts, in pixels of the window."""
WIDTHS, MODES = (400, 1400), ("light", "dark")
A4_WIDTH = 703
"""Pixels of a page of A4 between its margins, 210 - 2 × 12 mm at 96 dots an inch."""
WIDER = """
(e) => e.getBoundingClientRect().right > innerWidth + 0.5 || (e.matches(".scroll") && e.scrollWidth > e.clientWidth + 1)
"""
"""Function that returns true of an element that does not fit on the page."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDED)  # here, since its import takes a second
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has no sandbox
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return a function that writes a report of a kind, by the job itself where that is cheap; keys are hostile."""
    root = tmp_path_factory.mktemp("reports")
    source = corpus.write_folder(str(root / "in"), 6, height=80, width=96)
    storage.replace(f"{source}/{HOSTILE}", b"no picture")
    storage.replace(f"{source}/{'long-' * 40}.png", images.encode(corpus.picture(7), images.Encoding(codec="png")))
    bundle, local = corpus.write_bundle(str(root / "bundle")), ["--local", "--budget.share", "1", "--limits.rows", "4"]

    @functools.cache
    def make(kind: str) -> Path:
        output = root / kind
        both = ["--input", source, "--output", str(output)]
        match kind:
            case "train":
                (root / "train.html").write_text(trained(f"{root}/run"))
                return root / "train.html"
            case "inspect":
                assert inspect.main(["--input", source, "--report", f"{root}/inspect.html"]) == 0
                return root / "inspect.html"
            case "evaluate":
                made = ["--input", small.write_pairs(f"{root}/pairs", 6), "--output", f"{root}/translated"]
                assert translate.main([*made, "--bundle", bundle, "--keep_source", *local]) == 0
                assert evaluate.main(["--input", f"{root}/translated", "--output", str(output)]) == 0
                return output / "report.html"
            case "pack":
                assert pack.main([*both, *local]) == 0
            case "translate":
                assert translate.main([*both, "--bundle", bundle, *local]) == 0
            case "augment":
                config = f"sources: {{s: {source}}}\ntranslators: {{night: {{bundle: {bundle}}}}}\noutput: {output}\n"
                (root / "augment.yaml").write_text(config)
                assert augment.main(["--config", f"{root}/augment.yaml", "--slot", "2026-01-01", *local]) == 0
        return output / "_transdomain/report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "LEAST_S", 0.0)  # runs of a moment are drawn, too
        yield make


def trained(run: str) -> str:
    """Return the report of a run of CycleGAN with losses of unlike size, of which one is no number for a while."""
    config = small.cyclegan("store", run, crop_size=32)
    lines = [
        {
            "step": step,
            "epoch": step // 100 + 1,
            "learning_rate": 2e-4,
            "images_per_s": 5 + math.sin(step),
            "data_wait": 0.01,
            "losses": {
                "d_A": 0.3,
                "g_AB": 0.5 if step > 300 else math.nan,
                "cycle_A": 4000 / step,
                "identity_A": 1.0,
                "d_B": 30.0,
                "g_BA": 0.7,
                "cycle_B": 3.0,
                "identity_B": 1.2,
            },
            "gradient_norms": {"generators": 2.0, "discriminators": 900.0},
            "validation": {"cycle_l1": 0.1, "cycle_l1_back": 0.2},
        }
        for step in range(1, 1000)
    ]
    pictures = np.stack([corpus.picture(i, 32, 32) for i in range(4)])
    columns = {"input": pictures, "translation": 255 - pictures, "cycle": pictures}
    samples = [Samples(learned, columns) for learned in learned_directions(config)]
    result = TrainResult(run=run, bundle=f"{run}/bundle", steps=1000, losses={}, validation=())
    data = {"source": "store/a", "target": "store/b", "images": [4, 4], "sha256": "0" * 64}
    return training_report(config, result, lines, samples, keys={"A": [HOSTILE]}, provenance={"data": data})


def opened(browser: Any, path: Path, width: int, mode: str) -> tuple[Any, list[str]]:
    """Return a page and what its console says, errors of scripts and of the policy included."""
    page, said = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=mode), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    return page, said


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_whole_and_fits_at_each_width_and_in_each_mode(
    kind: str, browser: Any, report_of: Callable[[str], Path]
) -> None:
    backgrounds = set()
    for width in WIDTHS:
        for mode in MODES:
            page, said = opened(browser, report_of(kind), width, mode)
            assert said == []
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width
            assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
            assert page.evaluate("document.images.length") > 0
            assert all(size >= 11 for size in page.evaluate(LETTERS))
            assert page.title() != "run"
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.close()
    assert len(backgrounds) == len(MODES)


@pytest.mark.parametrize("kind", ["train", "translate", "inspect"])
def test_a_key_with_a_script_is_shown_as_text(kind: str, browser: Any, report_of: Callable[[str], Path]) -> None:
    page, _ = opened(browser, report_of(kind), 1400, "light")
    assert HOSTILE in page.inner_text("body")
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_is_enlarged_and_its_slider_uncovers_the_translation(
    width: int, browser: Any, report_of: Callable[[str], Path]
) -> None:
    page, said = opened(browser, report_of("translate"), width, "light")
    page.locator(".gallery .row button").first.press("Enter")
    key = page.locator("dialog h2").inner_text()
    assert key == page.locator(".gallery .row .key").first.inner_text()
    assert page.locator("dialog .large img").count() == 2
    slider, covering = page.locator("dialog input"), page.locator("dialog .stage img + img")
    for value, clipped in (("0", "inset(0px 100% 0px 0px)"), ("100", "inset(0px 0% 0px 0px)")):
        slider.evaluate("(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", value)
        assert covering.evaluate("(e) => getComputedStyle(e).clipPath") == clipped
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    page.locator("dialog form button").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h2").inner_text() != key
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert said == []
    page.close()


def test_without_script_all_pictures_are_there(browser: Any, report_of: Callable[[str], Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report_of("translate").as_uri())
    assert page.locator(".gallery img:visible").count() == page.locator(".gallery img").count() > 0
    assert page.locator(".gallery button").count() == 0
    context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_it_is_light_and_nothing_is_cut_or_folded_up(
    kind: str, browser: Any, report_of: Callable[[str], Path]
) -> None:
    page, _ = opened(browser, report_of(kind), A4_WIDTH, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 32, 37)"
    assert page.evaluate(f"[...document.querySelectorAll('main *')].filter({WIDER}).map((e) => e.outerHTML)") == []
    colours = page.evaluate(
        "[...document.querySelectorAll('.legend i')].map((e) => getComputedStyle(e).printColorAdjust)"
    )
    assert set(colours) <= {"exact"}
    for folded in page.locator("details dl").all():
        assert folded.is_visible()
    assert not page.locator("dialog").is_visible()
    assert len(page.pdf(format="A4")) > 10_000
    page.close()


def test_a_strange_script_does_not_run(browser: Any, tmp_path: Path) -> None:
    """The policy holds even where the escaping would not."""
    rows = [GalleryRow(caption="k", pictures=[corpus.picture(1)])]
    document = render_report(Report(title="t", status="s", galleries=[Gallery(title="g", heads=["a"], rows=rows)]))
    path = tmp_path / "report.html"
    path.write_text(document.replace("<main>", "<main><script>document.title='run'</script>"))
    page, said = opened(browser, path, 400, "light")
    assert page.title() == "t"
    assert any("Content Security Policy" in line for line in said)
    page.close()


KEYS = [
    "javascript:alert(1)", '" onmouseover="document.title=1" x="', "</style><style>body { display: none }</style>",
    "a { color: red } .jpg", "url(http://127.0.0.1/x.png)", "   ", " two  spaces ", "\u202egnp.exe", "new\nline",
    "\udc80", "fill: #0000a1", "font-family: x;", "<svg onload=document.title=1>", "&lt;b&gt;", "${document.title=1}",
    "$x^2$", "]]><script>document.title=1</script>", "k" * 10_000, "", "data:text/html,<b>", "--><!--", "{{7*7}}",
]  # fmt: skip


def test_keys_of_every_kind_are_shown_as_text_and_nothing_comes_of_them(browser: Any, tmp_path: Path) -> None:
    lines = [QuarantineLine(key=key, stage=key, reason=key, message=key) for key in KEYS]
    rows = [GalleryRow(caption=key, pictures=[corpus.picture(1), key or None], scores=[(key, key)]) for key in KEYS]
    report = Report(
        title="t", status="s", quarantine=lines, quarantine_total=len(KEYS) * 2, reasons=dict.fromkeys(KEYS, 1),
        galleries=[Gallery(title="g", heads=["input", "translation"], rows=rows)],
        settings=[(key, key) for key in KEYS], command=" ".join(KEYS[:6]),
    )  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(render_report(report))
    page, said = opened(browser, path, 400, "light")
    assert said == []
    assert page.title() == "t"
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 400
    assert page.evaluate("document.querySelectorAll('a, main script, main style, [onload], [onmouseover]').length") == 0
    shown = page.locator("td.key").all_inner_texts()
    assert shown == [plain(key) for key in KEYS]
    assert page.locator(".row .key").all_inner_texts() == [plain(key, 160) for key in KEYS]
    assert shown[5] == "␣␣␣"
    names = {
        text.strip() for text in page.evaluate("[...document.querySelectorAll('svg text')].map((e) => e.textContent)")
    }
    assert {plain(key, 22).strip() for key in KEYS if key} <= names
    page.close()


@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_million_quarantined_rows_make_a_page_of_a_few_megabytes(rows: int, browser: Any, tmp_path: Path) -> None:
    lines = [QuarantineLine(key=f"{i}" * 200, stage="decode", reason="corrupt", message="m" * 5000) for i in range(200)]
    many = [lines[i % 200] for i in range(rows)]
    reasons = {f"reason {i}": 1 for i in range(1000)}
    noise = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), dtype=np.uint8)
    galleries = [
        Gallery(title="g", heads=["a"] * 4, rows=[GalleryRow(caption=str(i), pictures=noise) for i in range(60)])
    ] * 2
    report = Report(title="t", status="s", quarantine=many, quarantine_total=rows, reasons=reasons, galleries=galleries)
    path = tmp_path / "report.html"
    path.write_text(render_report(report))
    assert path.stat().st_size < 5_000_000
    page, said = opened(browser, path, 400, "light")
    assert said == []
    assert f"{rows:,} inputs quarantined, 200 shown" in page.inner_text("body")
    assert "rows are not shown" in page.inner_text("body")
    page.close()
