"""Structure distance: how far the translation of an image has moved its geometry.

The field measures it by DINO's self-similarity (Tumanyan et al. 2022, https://arxiv.org/abs/2201.00424, as "DINO
structure distance" in the papers on unpaired translation), whose weights are the user's. Without them the gradients
stand in for it, under a name of their own: the numbers of the two do not compare.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.images.basis import raster

GRADIENT = "gradient"
"""Name of the stand-in."""
_SIDE = 224
Structure = Callable[[np.ndarray, np.ndarray], float]
"""Function from an image and its translation, uint8 [H, W, 3], to their distance."""


def gradient_distance(source: np.ndarray, translation: np.ndarray) -> float:
    """Return half the mean difference of two images' edges, 0 (the same edges) to 1 (none in common).

    The luminance of both is resized to 224 × 224. Their edges are the magnitudes of its gradient (central differences),
    divided by their mean, so that neither contrast nor brightness counts, and only where edges are.
    """
    one, two = (_edges(each) for each in (source, translation))
    return float(np.abs(one - two).mean() / 2)


def _edges(pixels: np.ndarray) -> np.ndarray:
    from pipeline.scores.extractors.extractor import bicubic

    luminance = bicubic(raster.shown(pixels), _SIDE, _SIDE).astype(np.float64) @ (0.299, 0.587, 0.114)
    down, right = np.gradient(luminance)
    edges = np.hypot(down, right)
    mean = edges.mean()
    # A flat image has no edges: rounding of the resampling must not look like some.
    return edges / mean if mean > 1e-3 else np.zeros_like(edges)


def self_similarity_distance(url: str, sha256: str, device: str = "cpu") -> Structure:
    """Return the distance by a program that gives tokens [1, N, D] of an image, such as the keys of DINO's last layer.

    It is the mean squared difference of the cosines between all pairs of tokens of the one image and of the other.
    Raises UserError where the program is another one by now.
    """
    import torch

    from pipeline.errors import UserError
    from pipeline.scores.extractors.extractor import load_raw

    tokens = load_raw(url, sha256, device)

    def similarities(pixels: np.ndarray) -> torch.Tensor:
        found = tokens(pixels)
        if found.ndim != 3:
            raise UserError(f"{url}: gives {list(found.shape)} for an image, and structure needs tokens, [1, N, D]")
        unit = torch.nn.functional.normalize(found[0].double(), dim=1)
        return unit @ unit.T

    def distance(source: np.ndarray, translation: np.ndarray) -> float:
        with torch.inference_mode():
            one, two = (similarities(raster.shown(each)) for each in (source, translation))
            return float((one - two).square().mean())

    return distance
