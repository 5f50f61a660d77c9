"""CycleGAN: image-to-image translation without pairs (Zhu et al. 2017).

Names follow the article: generator g_AB translates A to B, g_BA translates B to A; discriminator d_A judges images of
domain A, d_B those of B. (The published code uses other names: its D_A judges domain B.) A loss named after a domain
compares or judges images of that domain: `cycle_A` and `identity_A` are distances to real images of A.

Shapes: every image batch is [N, C, H, W] in [-1, 1].
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
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
    Domain,
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
class CycleGANConfig:
    """The published recipe: ResNet of 9 blocks, 70×70 PatchGAN, instance norm, least squares, 10·cycle, 5·identity."""

    generator: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(kind="resnet", depth=9, norm="instance"))
    """Generator from domain A to domain B; the one from B to A has the channels swapped."""

    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """Discriminator of domain B, so it sees the generator's output; that of A takes A's channels."""

    gan_loss: GanLoss = "lsgan"
    """Loss by which generators and discriminators compete."""

    lambda_a: float = 10.0
    """Weight of the cycle A → B → A."""

    lambda_b: float = 10.0
    """Weight of the cycle B → A → B."""

    lambda_identity: float = 0.5
    """Weight of the identity loss, as a share of the cycle weight of the same domain; 0 skips its passes."""

    pool_size: int = 50
    """Number of earlier fakes of each domain kept for its discriminator."""

    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, under `wgangp` only (Gulrajani et al. 2017)."""

    def __post_init__(self) -> None:
        check_choice("gan_loss", self.gan_loss, get_args(GanLoss))
        for name in ("lambda_a", "lambda_b", "lambda_identity", "pool_size", "gradient_penalty"):
            check_not_negative(name, getattr(self, name))
        source, target = self.generator.in_channels, self.generator.out_channels
        if self.discriminator.in_channels != target:
            raise ValueError(
                f"discriminator.in_channels is {self.discriminator.in_channels}: in CycleGAN it judges domain B; "
                f"set it to {target} (generator.out_channels)"
            )
        if self.lambda_identity and source != target:
            raise ValueError(
                f"lambda_identity is {self.lambda_identity} with {source} channels in A and {target} in B: an identity "
                "needs as many in both; set lambda_identity to 0"
            )
        losses.check_penalty(self.gan_loss, self.gradient_penalty, self.discriminator)


class CycleGAN(Objective):
    """Generators `g_AB`, `g_BA` and discriminators `d_A`, `d_B`."""

    config_type = CycleGANConfig
    paired = False
    learns = (Learned("A", "g_AB", "d_B"), Learned("B", "g_BA", "d_A"))

    config: CycleGANConfig

    def __init__(self, config: CycleGANConfig, *, generator: Generator | None = None, pool_seed: int = 0) -> None:
        """Draw initial weights from `generator`, a random generator (default: torch's global one)."""
        of_ab = config.generator
        of_ba = of_ab.reversed()
        of_a = replace(config.discriminator, in_channels=of_ab.in_channels)
        super().__init__(
            generators={
                "g_AB": build_generator(of_ab, generator=generator),
                "g_BA": build_generator(of_ba, generator=generator),
            },
            discriminators={
                "d_A": build_discriminator(of_a, generator=generator),
                "d_B": build_discriminator(config.discriminator, generator=generator),
            },
            pools={"A": ImagePool(config.pool_size), "B": ImagePool(config.pool_size)},
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
        """Do one training step on unpaired images: the generators, then the discriminators.

        Returns the losses as computed for each update, weighted, detached, 0-dim: `d_A`, `g_AB` (d_B's verdict on its
        fakes), `cycle_A`, `identity_A`, `d_B`, `g_BA`, `cycle_B`, `identity_B`. A discriminator's loss is half the sum
        of real, fake and, under `wgangp`, the penalty.

        `update` is called twice, with losses and their optimiser. `autocast` gives a context for a forward.
        `replay(domain, fakes)` replaces the pools of this object; it is asked for B's fakes first. `accumulate` cuts
        the batch into that many micro-batches: they take the memory of one of them and give the result of the whole
        batch, within rounding (except for batch norm, dropout, and the points of `wgangp`, which are drawn anew).
        """
        self._check(real_a, real_b)
        batches = micro_batches(real_a, real_b, accumulate)
        fakes_a: list[Tensor] = []
        fakes_b: list[Tensor] = []
        found: dict[str, Tensor] = {}

        # Each forward has its own autocast context: a context caches cast weights, which are stale after an update.
        def of_generators(batch: MicroBatch) -> Tensor:
            with autocast(), frozen(self.networks[name] for name in self.discriminator_names):
                fake_a, fake_b, parts = self._generator_losses(batch.real_a, batch.real_b)
            fakes_a.append(fake_a.detach())
            fakes_b.append(fake_b.detach())
            tally(found, parts, batch.share)
            return batch.share * torch.stack(list(parts.values())).sum()

        def of_discriminators(batch: MicroBatch, seen_b: Tensor, seen_a: Tensor) -> Tensor:
            with autocast():
                d_b = self._discriminator_loss("B", batch.real_b, seen_b)
                d_a = self._discriminator_loss("A", batch.real_a, seen_a)
            tally(found, {"d_A": d_a, "d_B": d_b}, batch.share)
            return batch.share * (d_a + d_b)

        update([partial(of_generators, batch) for batch in batches], optimizers["generators"])
        seen_b = self.seen_by_discriminator("B", fakes_b, replay)
        seen_a = self.seen_by_discriminator("A", fakes_a, replay)
        update(
            [partial(of_discriminators, *each) for each in zip(batches, seen_b, seen_a, strict=True)],
            optimizers["discriminators"],
        )
        self.steps += 1
        order = ("d_A", "g_AB", "cycle_A", "identity_A", "d_B", "g_BA", "cycle_B", "identity_B")
        return {name: found[name] for name in order}

    def _generator_losses(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the fakes of A and of B, and the generators' losses by name."""
        config, g_ab, g_ba = self.config, self.forward["g_AB"], self.forward["g_BA"]
        real = {"A": real_a, "B": real_b}
        same: dict[str, Tensor] = {}
        # Dropout, too, is drawn pass by pass, as published.
        if config.lambda_identity and keeps_samples_apart(config.generator) and not config.generator.dropout:
            fake_b, same["B"] = apply_to_each(g_ab, [real_a, real_b], together=True)
            fake_a, same["A"] = apply_to_each(g_ba, [real_b, real_a], together=True)
            cycled = {"A": g_ba(fake_b), "B": g_ab(fake_a)}
        else:
            fake_b = g_ab(real_a)
            cycled = {"A": g_ba(fake_b)}
            fake_a = g_ba(real_b)
            cycled["B"] = g_ab(fake_a)
            if config.lambda_identity:
                same = {"B": g_ab(real_b), "A": g_ba(real_a)}

        weights = {"A": config.lambda_a, "B": config.lambda_b}
        found = {
            "g_AB": losses.generator_loss(config.gan_loss, self.networks["d_B"](fake_b)),
            "g_BA": losses.generator_loss(config.gan_loss, self.networks["d_A"](fake_a)),
        }
        for domain, weight in weights.items():
            found[f"cycle_{domain}"] = weight * losses.l1_loss(cycled[domain], real[domain])
            if config.lambda_identity:
                distance = losses.l1_loss(same[domain], real[domain])
                found[f"identity_{domain}"] = weight * config.lambda_identity * distance
            else:
                found[f"identity_{domain}"] = torch.zeros_like(found["g_AB"])
        return fake_a, fake_b, found

    def _discriminator_loss(self, domain: Domain, real: Tensor, fake: Tensor) -> Tensor:
        kind, discriminator = self.config.gan_loss, self.forward[f"d_{domain}"]
        together = keeps_samples_apart(self.config.discriminator)
        of_real, of_fake = apply_to_each(discriminator, [real, fake], together=together)
        loss = losses.discriminator_loss(kind, of_real, real=True)
        loss = loss + losses.discriminator_loss(kind, of_fake, real=False)
        if kind == "wgangp":
            loss = loss + self.config.gradient_penalty * losses.gradient_penalty(discriminator, real, fake)
        return 0.5 * loss

    def _check(self, real_a: Tensor, real_b: Tensor) -> None:
        config = self.config.generator
        check_images("real_a", real_a, config.in_channels, config.size_multiple)
        check_images("real_b", real_b, config.out_channels, config.size_multiple)
