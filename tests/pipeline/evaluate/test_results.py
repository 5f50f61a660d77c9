"""Scores of sets that an extractor sees nothing in, and columns in which nothing is the best."""

from __future__ import annotations

import numpy as np

from pipeline.evaluate.comparison import Group, Row, best_and_ties
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.measuring.reduction import SetStatistics, set_statistics
from pipeline.evaluate.results import Score, set_scores
from pipeline.scores.sets.sampling import places
from pipeline.scores.table import metric_named, metrics_on


def of(features: np.ndarray, name: str) -> SetStatistics:
    at = places([f"{name}{i}" for i in range(len(features))], 0)
    return set_statistics(lambda: iter([(at, features.astype(np.float32))]), 100)


def test_constant_features_make_no_score() -> None:
    config = EvaluateConfig(input="in", output="out")
    constant, other = np.full((16, 4), 0.5), np.full((16, 4), 0.75)
    scores, why = set_scores(config, "program", of(constant, "real"), of(constant, "made"))
    assert not scores
    assert why.keys() == {metric.title for metric in metrics_on("sets")}
    assert set(why.values()) == {"the extractor gives the same features for all images of both sets"}
    # Two sets that differ do have a distance, however little each of them varies.
    scores, _ = set_scores(config, "program", of(constant, "real"), of(other, "made"))
    found = {score.metric.name: score.value for score in scores}
    assert found["fid"] == np.square(constant[0] - other[0]).sum()
    assert found["coverage"] == 0


def test_nothing_is_the_best_where_all_are_the_same() -> None:
    metric = metric_named("recall")
    assert metric

    def marks(*values: float) -> tuple[str, frozenset[str]]:
        scores = [Score(name="recall", metric=metric, value=each, standard_error=0.1, images=9) for each in values]
        rows = [Row(name=str(i), scores={"recall": score}) for i, score in enumerate(scores)]
        return best_and_ties(Group(protocol={}, names=["recall"], rows=rows), "recall")

    assert marks(0.0, 0.0, 0.0) == ("", frozenset())
    assert marks(0.0, 0.5, 0.0)[0] == "1"
    assert marks(0.5) == ("", frozenset())
