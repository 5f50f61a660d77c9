"""pix2pix: image-to-image translation from pairs (Isola et al. 2017).

Shapes: a real_a, real_b and fake_b are [N, C, H, W] in [-1, 1]; a pair is [N, C_a + C_b, H, W].
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import torch
from torch import Generator, Tensor

from gan_models import losses
from gan_models.build import build_discriminator, build_generator
from gan_models.config import DiscriminatorConfig, GanLoss, GeneratorConfig, check_choice, check_not_negative
from gan_models.image_pool import ImagePool
from gan_models.objective import (
    Autocast,
    Learned,
    MicroBatch,
    Objective,
    Optimizers,
    Replay,
    Update,
    apply_to_each,
    check_images,
    frozen,
    keeps_samples_apart,
    micro_batches,
    plain_update,
    tally,
)


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig:
    """The published recipe: U-Net 256 with dropout, 70×70 PatchGAN on pairs, batch norm, cross-entropy, 100·L1."""

    generator: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(dropout=True))
    """Generator from domain A to domain B."""

    discriminator: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(in_channels=6, norm="batch"))
    """Discriminator of A and B together, so its `in_channels` are the sum of the generator's."""

    gan_loss: GanLoss = "vanilla"
    """Loss by which generator and discriminator compete."""

    lambda_l1: float = 100.0
    """Weight of the L1 distance to the target."""

    pool_size: int = 0
    """Number of earlier fake pairs kept for the discriminator; the recipe has no pool."""

    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, under `wgangp` only (Gulrajani et al. 2017)."""

    def __post_init__(self) -> None:
        check_choice("gan_loss", self.gan_loss, get_args(GanLoss))
        check_not_negative("lambda_l1", self.lambda_l1)
        check_not_negative("pool_size", self.pool_size)
        check_not_negative("gradient_penalty", self.gradient_penalty)
        channels = self.generator.in_channels + self.generator.out_channels
        if self.discriminator.in_channels != channels:
            raise ValueError(
                f"discriminator.in_channels is {self.discriminator.in_channels}: in pix2pix it sees source and target "
                f"together; set it to {channels} (generator.in_channels + generator.out_channels)"
            )
        losses.check_penalty(self.gan_loss, self.gradient_penalty, self.discriminator)


class Pix2Pix(Objective):
    """Generator `g` from A to B, and a discriminator `d` of pairs."""

    config_type = Pix2PixConfig
    paired = True
    learns = (Learned("A", "g", "d"),)

    config: Pix2PixConfig

    def __init__(self, config: Pix2PixConfig, *, generator: Generator | None = None, pool_seed: int = 0) -> None:
        """Draw initial weights from `generator`, a random generator (default: torch's global one)."""
        super().__init__(
            generators={"g": build_generator(config.generator, generator=generator)},
            discriminators={"d": build_discriminator(config.discriminator, generator=generator)},
            pools={"B": ImagePool(config.pool_size)},
            pool_seed=pool_seed,
        )
        self.config = config

    def step(
        self,
        real_a: Tensor,
        real_b: Tensor,
        *,
        optimizers: Optimizers,
        update: Update = plain_update,
        autocast: Autocast = nullcontext,
        replay: Replay | None = None,
        accumulate: int = 1,
    ) -> dict[str, Tensor]:
        """Do one training step on pairs: the discriminator first, then the generator against the updated one.

        Returns the losses as computed for each update, weighted, detached, 0-dim: `g_gan`, `g_l1`, `d_real`, `d_fake`,
        and `d_penalty` under `wgangp`. `update` is called twice, with losses and their optimiser. `autocast` gives a
        context for a forward. `replay("B", pairs)` replaces the pool of this object, if there is one.

        `accumulate` cuts the batch into that many micro-batches: they take the memory of one of them and give the
        result of the whole batch, within rounding. The generator then translates twice, since no graph is kept while
        the discriminator is updated: dropout draws new masks for the second pass, and a batch norm's running statistics
        include both passes (one micro-batch at a time).
        """
        self._check(real_a, real_b)
        batches = micro_batches(real_a, real_b, accumulate)
        whole = len(batches) == 1
        found: dict[str, Tensor] = {}
        # Each forward has its own autocast context: a context caches cast weights, which are stale after an update.
        with autocast(), torch.set_grad_enabled(whole):
            fakes = [self.forward["g"](batch.real_a) for batch in batches]
            pairs = [torch.cat([batch.real_a, fake], 1) for batch, fake in zip(batches, fakes, strict=True)]
            judged = self.seen_by_discriminator("B", pairs, replay)

        def of_discriminator(batch: MicroBatch, fake_pair: Tensor) -> Tensor:
            with autocast():
                parts = self._discriminator_losses(torch.cat([batch.real_a, batch.real_b], 1), fake_pair)
            tally(found, parts, batch.share)
            return batch.share * 0.5 * torch.stack(list(parts.values())).sum()

        def of_generator(batch: MicroBatch) -> Tensor:
            with autocast(), frozen([self.networks["d"]]):
                fake_b = fakes[0] if whole else self.forward["g"](batch.real_a)
                parts = self._generator_losses(batch.real_a, batch.real_b, fake_b)
            tally(found, parts, batch.share)
            return batch.share * (parts["g_gan"] + parts["g_l1"])

        update(
            [partial(of_discriminator, *each) for each in zip(batches, judged, strict=True)],
            optimizers["discriminators"],
        )
        update([partial(of_generator, batch) for batch in batches], optimizers["generators"])
        self.steps += 1
        return found

    def _discriminator_losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the losses on pairs, [N, C_a + C_b, H, W]."""
        kind, discriminator = self.config.gan_loss, self.forward["d"]
        together = keeps_samples_apart(self.config.discriminator)
        # The fake comes first: a batch norm's running statistics depend on the order.
        of_fake, of_real = apply_to_each(discriminator, [fake, real], together=together)
        found = {
            "d_real": losses.discriminator_loss(kind, of_real, real=True),
            "d_fake": losses.discriminator_loss(kind, of_fake, real=False),
        }
        if kind == "wgangp":
            found["d_penalty"] = self.config.gradient_penalty * losses.gradient_penalty(discriminator, real, fake)
        return found

    def _generator_losses(self, real_a: Tensor, real_b: Tensor, fake_b: Tensor) -> dict[str, Tensor]:
        logits = self.networks["d"](torch.cat([real_a, fake_b], 1))
        return {
            "g_gan": losses.generator_loss(self.config.gan_loss, logits),
            "g_l1": self.config.lambda_l1 * losses.l1_loss(fake_b, real_b),
        }

    def _check(self, real_a: Tensor, real_b: Tensor) -> None:
        config = self.config.generator
        check_images("real_a", real_a, config.in_channels, config.size_multiple)
        check_images("real_b", real_b, config.out_channels, config.size_multiple)
        if real_a.shape[0] != real_b.shape[0] or real_a.shape[2:] != real_b.shape[2:]:
            raise ValueError(f"real_a is {list(real_a.shape)} and real_b {list(real_b.shape)}: pairs have one size")
