"""pix2pix and CycleGAN in plain PyTorch: networks, losses, one training step, bundles and exports of trained weights.

The package needs torch, safetensors and the standard library (Pillow only to translate a Pillow image; onnx, onnxscript
and onnxruntime only to export to ONNX). It reads only the files that it is given, and knows nothing of the programs
around it. Its names are imported when they are first used, so that a configuration is read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_models.build import build_discriminator, build_generator
    from gan_models.bundle import Bundle, load_bundle, save_bundle
    from gan_models.config import DiscriminatorConfig, GeneratorConfig
    from gan_models.cyclegan import CycleGAN, CycleGANConfig
    from gan_models.description import Description, describe_bundle
    from gan_models.export import check_onnx, check_pt2, export_onnx, export_program, export_pt2, require_onnx
    from gan_models.image_pool import ImagePool, PoolDecision, pool_decisions
    from gan_models.objective import Learned, Objective
    from gan_models.objectives import OBJECTIVES
    from gan_models.pix2pix import Pix2Pix, Pix2PixConfig
    from gan_models.regions import regions
    from gan_models.schedule import learning_rate_factor
    from gan_models.translation import translation_mode
    from gan_models.winograd import train_winograd_trunk, with_winograd_trunk

__all__ = [
    "OBJECTIVES",
    "Bundle",
    "CycleGAN",
    "CycleGANConfig",
    "Description",
    "DiscriminatorConfig",
    "GeneratorConfig",
    "ImagePool",
    "Learned",
    "Objective",
    "Pix2Pix",
    "Pix2PixConfig",
    "PoolDecision",
    "build_discriminator",
    "build_generator",
    "check_onnx",
    "check_pt2",
    "describe_bundle",
    "export_onnx",
    "export_program",
    "export_pt2",
    "learning_rate_factor",
    "load_bundle",
    "pool_decisions",
    "regions",
    "require_onnx",
    "save_bundle",
    "train_winograd_trunk",
    "translation_mode",
    "with_winograd_trunk",
]

_NAMES_OF = {
    "build": (
        "build_discriminator",
        "build_generator",
    ),
    "bundle": (
        "Bundle",
        "load_bundle",
        "save_bundle",
    ),
    "config": (
        "Description",
        "DiscriminatorConfig",
        "GeneratorConfig",
    ),
    "description": ("Description", "describe_bundle"),
    "cyclegan": (
        "CycleGAN",
        "CycleGANConfig",
    ),
    "export": (
        "check_onnx",
        "check_pt2",
        "export_onnx",
        "export_program",
        "export_pt2",
        "require_onnx",
    ),
    "image_pool": (
        "ImagePool",
        "PoolDecision",
        "pool_decisions",
    ),
    "objective": (
        "Learned",
        "Objective",
    ),
    "objectives": ("OBJECTIVES",),
    "pix2pix": (
        "Pix2Pix",
        "Pix2PixConfig",
    ),
    "regions": ("regions",),
    "schedule": ("learning_rate_factor",),
    "translation": ("translation_mode",),
    "winograd": (
        "train_winograd_trunk",
        "with_winograd_trunk",
    ),
}
_MODULE_OF = {name: f"gan_models.{module}" for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
