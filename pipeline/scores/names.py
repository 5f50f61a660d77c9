"""Names of the scores that a bundle's own networks give to translations. Imports nothing large."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

ScoreName = Literal["realism", "cycle_l1"]
"""realism: the mean of the discriminator's verdicts on all patches; 1 is real, 0 is not, for the losses lsgan and
vanilla (as a probability), and the larger the better for the others. cycle_l1: the mean absolute difference between
the input and its translation back, 0 to 1; the smaller the better."""

SCORES: Sequence[str] = get_args(ScoreName)
HIGHER_IS_BETTER: Mapping[str, bool] = {"realism": True, "cycle_l1": False}
