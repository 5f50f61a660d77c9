"""Galleries of an evaluation: named after what they show, with the way back beside where the bundle has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import storage
from pipeline.evaluate import pictures
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.job import Evaluation, plan_evaluation
from pipeline.evaluate.measuring.reduction import Column, reduce_output
from pipeline.evaluate.run import evaluate
from pipeline.report.content import Gallery
from pipeline.scores.metrics import l1
from tests.corpus import picture
from tests.jobs.test_scores import write_cyclegan
from tests.pipeline.training import small

Evaluated = tuple[Evaluation, dict[str, Column]]


def evaluated(folder: Path, count: int, **options: Any) -> Evaluated:
    """Return an evaluation of so many translations that has run, and its scores."""
    targets = [picture(i, 40, 40) // 2 + 60 for i in range(count)]
    darker = [target - 2 * i for i, target in enumerate(targets)]
    sources = [picture(100 + i, 40, 40) for i in range(count)]
    url = small.write_store(f"{folder}/store", image=darker, image_b=targets, source_image=sources)
    config = EvaluateConfig(input=url, output=f"{folder}/out", local=True, extractor="none", **options)
    evaluate(config)
    [evaluation] = plan_evaluation(config).evaluations
    return evaluation, dict(reduce_output(evaluation.output, evaluation.scoring, 10, 0).columns["translation"])


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("cycles")
    return evaluated(folder, 5, bundle=write_cyclegan(f"{folder}/bundle"))


def of(galleries: list[Gallery], title: str) -> Gallery:
    return next(each for each in galleries if each.title.startswith(title))


def test_the_cycle_beside_a_translation_is_that_whose_error_was_measured(there_and_back: Evaluated) -> None:
    evaluation, columns = there_and_back
    first, *others = pictures.galleries(evaluation, columns, 3)
    assert "translated back" in first.note
    gallery = of(others, "cycle error")
    assert gallery.heads == ["input", "translation", "target", "cycle"]
    measured = {each.key: each.value for each in columns["cycle_l1"].least}
    assert len(gallery.rows) == len(measured) == 5
    for row in gallery.rows:
        source, _, _, cycle = row.pictures
        assert isinstance(source, np.ndarray)
        assert isinstance(cycle, np.ndarray)
        assert l1(source, cycle) == pytest.approx(measured[row.caption], abs=1e-6)


def test_a_cycle_that_is_not_made_leaves_a_reason_in_its_place(
    there_and_back: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation, columns = there_and_back
    monkeypatch.setattr(pictures, "MOST_CYCLES", 2)
    shown = pictures.galleries(evaluation, columns, 3)
    cycles = {row.caption: row.pictures[3] for each in shown for row in each.rows}
    assert sum(isinstance(cycle, np.ndarray) for cycle in cycles.values()) == 2
    assert {cycle for cycle in cycles.values() if isinstance(cycle, str)} == {"not made: 2 cycles are shown at most"}
    assert all(isinstance(row.pictures[3], np.ndarray) for row in of(shown, "cycle error").rows[:2])
    monkeypatch.setattr(pictures, "MOST_CYCLES", 9)
    monkeypatch.setattr(pictures, "MOST_CYCLE_PIXELS", 4000)
    cycles = {row.caption: row.pictures[3] for each in pictures.galleries(evaluation, columns, 3) for row in each.rows}
    assert sum(isinstance(cycle, np.ndarray) for cycle in cycles.values()) == 2  # of 1,600 pixels each
    assert {each for each in cycles.values() if isinstance(each, str)} == {"not made: too many pixels"}


def test_without_the_bundle_galleries_have_all_but_the_cycle(tmp_path: Path) -> None:
    bundle = write_cyclegan(f"{tmp_path}/bundle")
    evaluation, columns = evaluated(tmp_path, 2, bundle=bundle)
    for name in ("config.json", "b_to_a.safetensors"):
        storage.delete(f"{bundle}/{name}")
    gallery = of(pictures.galleries(evaluation, columns, 3), "cycle error")
    for row in gallery.rows:
        *others, cycle = row.pictures
        assert all(isinstance(other, np.ndarray) for other in others)
        assert isinstance(cycle, str)
        assert "no model bundle there" in cycle


def test_a_store_that_is_gone_leaves_reasons_and_no_error(tmp_path: Path) -> None:
    evaluation, columns = evaluated(tmp_path, 2)
    storage.delete(f"{tmp_path}/store/000000.parquet")
    [row, _] = of(pictures.galleries(evaluation, columns, 3), "L1").rows
    assert [type(each) for each in row.pictures] == [str, str, str]
    assert "not read again" in str(row.pictures[0])


def test_galleries_are_named_after_what_they_show(there_and_back: Evaluated) -> None:
    evaluation, columns = there_and_back

    def titles(most: int, of_input: str = "") -> list[str]:
        return [each.title for each in pictures.galleries(evaluation, {"l1": columns["l1"]}, most, of_input)]

    assert titles(2) == ["L1: best and worst images"]
    assert titles(2, "night") == ["L1: best and worst images of night"]
    assert titles(3) == titles(5) == ["L1: all 5 images, the best first"]
    assert titles(5, "night") == ["L1: all 5 images of night, the best first"]
    [gallery] = pictures.galleries(evaluation, {"l1": columns["l1"]}, 3)
    assert [row.caption for row in gallery.rows] == ["000", "001", "002", "003", "004"]
    assert {name for row in gallery.rows for name, _ in row.scores} == {"L1"}
    [gallery] = pictures.galleries(evaluation, {"l1": columns["l1"]}, 1)
    assert [row.scores[0][0] for row in gallery.rows] == ["L1, best", "L1, worst"]
