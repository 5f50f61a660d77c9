"""pix2pix and CycleGAN in plain PyTorch: networks, losses, one training step, bundles and exports of trained weights.

The package needs torch, safetensors and the standard library (Pillow only to translate a Pillow image; onnx, onnxscript
and onnxruntime only to export to ONNX). It reads only the files that it is given, and knows nothing of the programs
around it.
"""

from gan_models.build import build_discriminator, build_generator
from gan_models.bundle import Bundle, load_bundle, save_bundle
from gan_models.config import DiscriminatorConfig, GeneratorConfig
from gan_models.cyclegan import CycleGAN, CycleGANConfig
from gan_models.export import check_onnx, check_pt2, export_onnx, export_program, export_pt2, require_onnx
from gan_models.image_pool import ImagePool, PoolDecision, pool_decisions
from gan_models.objective import Learned, Objective
from gan_models.pix2pix import Pix2Pix, Pix2PixConfig
from gan_models.schedule import learning_rate_factor
from gan_models.translation import translation_mode
from gan_models.winograd import train_winograd_trunk, with_winograd_trunk

OBJECTIVES: dict[str, type[Objective]] = {"pix2pix": Pix2Pix, "cyclegan": CycleGAN}
"""Objectives by the name that configurations and bundles have for them."""

__all__ = [
    "OBJECTIVES",
    "Bundle",
    "CycleGAN",
    "CycleGANConfig",
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
    "export_onnx",
    "export_program",
    "export_pt2",
    "learning_rate_factor",
    "load_bundle",
    "pool_decisions",
    "require_onnx",
    "save_bundle",
    "train_winograd_trunk",
    "translation_mode",
    "with_winograd_trunk",
]
