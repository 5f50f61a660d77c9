"""Table of the objectives: a further one is an entry here."""

from gan_models.cyclegan import CycleGAN
from gan_models.objective import Objective
from gan_models.pix2pix import Pix2Pix

OBJECTIVES: dict[str, type[Objective]] = {"pix2pix": Pix2Pix, "cyclegan": CycleGAN}
"""Objectives by the name that configurations and bundles have for them."""
