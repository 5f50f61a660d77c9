"""Names of the scores that translations get without a target. Imports nothing large."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

ScoreName = Literal["realism", "cycle_l1", "agreement"]
"""realism: the mean of the discriminator's verdicts on all patches; 1 is real, 0 is not, for the losses lsgan and
vanilla (as a probability), and the larger the better for the others. cycle_l1: the mean absolute difference between
the input and its translation back, 0 to 1; the smaller the better. agreement: how alike a model of the user finds the
input and its translation; 1 is the same, and the larger the better."""

SCORES: Sequence[str] = get_args(ScoreName)
BY_ITS_NETWORKS = frozenset({"realism", "cycle_l1"})
"""Scores by networks of the bundle that translates."""
HIGHER_IS_BETTER: Mapping[str, bool] = {"realism": True, "cycle_l1": False, "agreement": True}
