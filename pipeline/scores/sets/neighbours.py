"""Scores of two sets of features by their nearest neighbours.

Precision and recall: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, with k = 3. Density and coverage:
Naeem et al. 2020, https://arxiv.org/abs/2002.09797, with k = 5, which still tell sets apart where precision and recall
are 0 or 1 for all of them. An image's ball reaches to its k-th neighbour in its own set, and the rim belongs to it.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.scores.sets.pairs import Block
from pipeline.scores.sets.sampling import Sample

MANIFOLD, BALL = 3, 5
"""Neighbours to which balls reach: of precision and recall, of density and coverage."""
_KS = (MANIFOLD, BALL)
_NEIGHBOURS = {"precision": MANIFOLD, "recall": MANIFOLD, "density": BALL, "coverage": BALL}


class Neighbours:
    """Which images of one set are in balls around images of the other, from the distances of all pairs."""

    def __init__(self, real: Sample, other: Sample) -> None:
        sizes = {"real": len(real), "other": len(other)}
        self._sizes = sizes
        self._radii = {(which, k): torch.zeros(n, dtype=torch.float64) for which, n in sizes.items() for k in _KS}
        self._values = {
            "precision": torch.zeros(len(other), dtype=torch.float64),
            "recall": torch.zeros(len(real), dtype=torch.float64),
            "density": torch.zeros(len(other), dtype=torch.float64),
            "coverage": torch.zeros(len(real), dtype=torch.float64),
        }

    def add(self, block: Block) -> None:
        """Add the pairs of some rows; those within both samples come before those between them."""
        squared = block.squared_distances
        rows = slice(block.first, block.first + len(squared))
        if block.which != "between":
            nearest = squared.topk(min(BALL + 1, squared.shape[1]), 1, largest=False).values  # the first is its own
            for k in _KS:
                self._radii[block.which, k][rows] = nearest[:, min(k, nearest.shape[1] - 1)]
            return
        in_real = squared <= self._radii["real", MANIFOLD]
        self._values["precision"][rows] = in_real.any(1).double()
        in_other = squared <= self._radii["other", MANIFOLD][rows, None]
        self._values["recall"] = self._values["recall"].maximum(in_other.any(0).double())
        in_balls = squared <= self._radii["real", BALL]
        self._values["density"][rows] = in_balls.sum(1).double() / BALL
        self._values["coverage"] = self._values["coverage"].maximum(in_balls.any(0).double())

    def values(self, name: str) -> np.ndarray:
        """Return what a score is the mean of, once all pairs have been added, float64 [images].

        Precision says of each image of the other set whether it is in a ball of a real one, recall of each real one
        whether it is in a ball of the other set. Density says of each image of the other set in how many balls of real
        ones it is, in k-ths, and coverage of each real one whether there is any in its ball. Raises ValueError where a
        set has no k-th neighbour.
        """
        k, least = _NEIGHBOURS[name], min(self._sizes.values())
        if least <= k:
            raise ValueError(f"it needs more than {k} images a set, and there are {least}")
        return self._values[name].numpy()
