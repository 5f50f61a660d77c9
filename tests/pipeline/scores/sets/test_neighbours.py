"""Precision, recall, density and coverage: plain searches by their definitions, and what they are of known sets."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.scores.sets.neighbours import Neighbours
from pipeline.scores.sets.pairs import add_all_pairs
from pipeline.scores.sets.sampling import Sample
from tests.pipeline.scores.sets.test_distances import drawn, sample

NAMES = ("precision", "recall", "density", "coverage")


def neighbours(real: Sample, other: Sample) -> Neighbours:
    found = Neighbours(real, other)
    add_all_pairs(real, other, found)
    return found


def means(real: np.ndarray, other: np.ndarray) -> dict[str, float]:
    found = neighbours(sample(real), sample(other, "other"))
    return {name: float(found.values(name).mean()) for name in NAMES}


def searched(real: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return the four scores as the papers define them, one image after the other."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a.astype(np.float64) - b) ** 2).sum()))

    def radius(of: np.ndarray, i: int, k: int) -> float:
        return sorted(distance(of[i], each) for j, each in enumerate(of) if j != i)[k - 1]

    def manifold(of: np.ndarray, point: np.ndarray) -> bool:
        return any(distance(each, point) <= radius(of, i, 3) for i, each in enumerate(of))

    balls = [radius(real, i, 5) for i in range(len(real))]
    inside = [[distance(x, y) <= ball for y in other] for x, ball in zip(real, balls, strict=True)]
    return {
        "precision": sum(manifold(real, y) for y in other) / len(other),
        "recall": sum(manifold(other, x) for x in real) / len(real),
        "density": sum(map(sum, inside)) / (5 * len(other)),
        "coverage": sum(map(any, inside)) / len(real),
    }


@pytest.mark.parametrize(("shift", "spread"), [(1.2, 1.0), (0.9, 1.3)])
def test_they_are_those_of_a_plain_search(shift: float, spread: float) -> None:
    real, other = drawn(40, 0)[:, :4], drawn(30, 1, shift, spread)[:, :4]
    assert means(real, other) == pytest.approx(searched(real, other))
    assert 0 < means(real, other)["coverage"] < 1


def test_sets_of_one_kind_are_within_each_other_and_those_apart_are_not() -> None:
    real = drawn(600, 0)[:, :2]
    alike, apart = means(real, drawn(600, 1)[:, :2]), means(real, drawn(600, 2, 50.0)[:, :2])
    assert alike["precision"] > 0.95
    assert alike["recall"] > 0.95
    assert alike["density"] == pytest.approx(1, abs=0.15)  # its expectation, Naeem et al., section 3.3
    # Its expectation, Naeem et al., equation 8, for many images: 1 - 1/2^k.
    assert alike["coverage"] == pytest.approx(1 - 0.5**5, abs=0.03)
    assert apart == dict.fromkeys(NAMES, 0)


def test_a_set_that_has_lost_its_variety_is_precise_and_recalls_and_covers_little() -> None:
    real = drawn(300, 0)
    found = means(real, real[:100] * 0.01)
    assert found["precision"] > 0.9
    assert found["recall"] < 0.1
    assert found["density"] > 1
    equal = means(real, np.repeat(real[:1], 50, 0))
    assert equal["recall"] == pytest.approx(1 / 300)
    assert (equal["precision"], equal["coverage"] < 0.1) == (1, True)


def test_a_set_without_a_kth_neighbour_has_no_score() -> None:
    found = neighbours(sample(drawn(4, 0)), sample(drawn(9, 1), "other"))
    assert len(found.values("precision")) == 9
    with pytest.raises(ValueError, match="needs more than 5 images a set, and there are 4"):
        found.values("density")
    with pytest.raises(ValueError, match="needs more than 3"):
        neighbours(sample(drawn(1, 0)), sample(drawn(9, 1), "other")).values("recall")
