"""LPIPS: the distance of two images in the features of AlexNet (Zhang et al. 2018, https://arxiv.org/abs/1801.03924).

The linear heads, v0.1, are those that torchmetrics brings; the trunk's ImageNet weights are the user's file. The
network is built here, since torchmetrics' comes from torchvision, which is no dependency.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.images import PixelType
from pipeline.scores.extractors.extractor import in_short, load_state

WHERE = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
LEAST_SIDE = 31
"""Pixels of a side, at least, for which there is anything left after AlexNet's poolings."""
_TAPS = (1, 4, 7, 9, 11)
"""Layers whose results are compared."""


class Lpips:
    """Distance of two images, 0 for equal ones; the smaller the more alike to people."""

    def __init__(self, url: str, sha256: str, device: str = "cpu") -> None:
        """Load AlexNet's weights, by the names of torchvision. Raises UserError where they are others."""
        self._device = device
        self._trunk = alexnet().to(device)
        weights = {name.removeprefix("features."): each for name, each in load_state(url, sha256).items()}
        try:
            self._trunk.load_state_dict({name: each for name, each in weights.items() if name[0].isdigit()})
        except RuntimeError as error:
            raise UserError(f"{url}: no weights of AlexNet, such as {WHERE}: {in_short(error)}") from error
        self._heads = [each.to(device) for each in _heads()]
        # Of ImageNet, on the scale from -1 to 1.
        self._shift, self._spread = (
            torch.tensor(each, device=device)[None, :, None, None]
            for each in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
        )

    def __call__(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the distance of two images of one shape and type, three channels; nan for those that are too small."""
        if min(a.shape[:2]) < LEAST_SIDE:
            return float("nan")
        with torch.inference_mode():
            seen = self._seen(a), self._seen(b)
            found = [_distance(x, y, head) for x, y, head in zip(*seen, self._heads, strict=True)]
        return float(sum(found))

    def _seen(self, pixels: np.ndarray) -> list[Tensor]:
        """Return what the trunk sees in an image, layer by layer."""
        values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None].to(self._device)
        x = (values / PixelType.of(pixels).peak * 2 - 1 - self._shift) / self._spread
        seen = []
        for i, layer in enumerate(self._trunk):
            x = layer(x)
            if i in _TAPS:
                seen.append(x)
        return seen


def _distance(a: Tensor, b: Tensor, head: Tensor) -> float:
    a, b = (each / torch.sqrt(1e-8 + each.square().sum(1, keepdim=True)) for each in (a, b))
    return float(((a - b).square() * head).sum(1).mean())


def alexnet() -> nn.Sequential:
    """Return the layers of AlexNet that LPIPS looks at, without weights, numbered as torchvision does."""
    relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    layers = [
        nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool(),
        nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu(),
        nn.Conv2d(256, 256, 3, padding=1), relu(),
    ]  # fmt: skip
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _heads() -> list[Tensor]:
    """Return the weights of the channels of each layer, [1, C, 1, 1]."""
    from torchmetrics.functional.image import lpips

    path = Path(lpips.__file__).with_name("lpips_models") / "alex.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"] for i in range(len(_TAPS))]
