"""GAN losses of generator and discriminator, on logits, and the gradient penalty. All are computed in fp32.

real and fake are batches of images [N, C, H, W]; logits are a discriminator's outputs for them, of any shape.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor

from gan_models.config import DiscriminatorConfig, GanLoss


def discriminator_loss(kind: GanLoss, logits: Tensor, *, real: bool) -> Tensor:
    """Return the discriminator's loss on a batch that is `real` or not, a mean over all logits (0-dim).

    `vanilla`: cross-entropy (Goodfellow et al. 2014). `lsgan`: least squares with labels 1 and 0 (Mao et al. 2017).
    `hinge`: Lim and Ye 2017. `wgangp`: the critic's score (Gulrajani et al. 2017); its penalty is separate.
    """
    logits = in_full_precision(logits)
    match kind:
        case "vanilla":
            return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
        case "lsgan":
            return F.mse_loss(logits, torch.full_like(logits, float(real)))
        case "hinge":
            return F.relu(1 - logits if real else 1 + logits).mean()
        case "wgangp":
            return -logits.mean() if real else logits.mean()


def generator_loss(kind: GanLoss, logits: Tensor) -> Tensor:
    """Return the generator's loss on the logits of its fakes, a mean over all logits (0-dim).

    `vanilla` is the non-saturating form, as published. Hinge and WGAN-GP have no bound here: fakes score as high as
    they can.
    """
    if kind in ("hinge", "wgangp"):
        return -in_full_precision(logits).mean()
    return discriminator_loss(kind, logits, real=True)


def l1_loss(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference over all values (0-dim)."""
    return F.l1_loss(in_full_precision(image), in_full_precision(target))


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean over the batch of (‖∇D(x)‖ − 1)², with x between real and fake (0-dim).

    (Gulrajani et al. 2017, section 4.) Each sample's position on the line from real to fake is drawn from torch's
    global generator. D(x) is the mean of a sample's logits, since the losses compare that score (the article's critic
    has one logit).
    """
    real, fake = in_full_precision(real.detach()), in_full_precision(fake.detach())
    share = torch.rand(len(real), 1, 1, 1, dtype=real.dtype, device=real.device)
    between = torch.lerp(real, fake, share).requires_grad_()
    logits = in_full_precision(discriminator(between))
    (gradient,) = torch.autograd.grad(logits.reshape(len(logits), -1).mean(1).sum(), between, create_graph=True)
    # The root's own gradient is infinite at 0, which a critic's gradient can reach.
    length = (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()
    return (length - 1).square().mean()


def check_penalty(kind: GanLoss, weight: float, discriminator: DiscriminatorConfig) -> None:
    """Raise ValueError for a gradient penalty on a critic with batch norm, which has no gradient of a single sample."""
    if kind == "wgangp" and weight and discriminator.norm == "batch":
        raise ValueError(
            "gan_loss is wgangp with discriminator.norm batch: the gradient penalty is of each sample by itself; set "
            "discriminator.norm to instance or layer (or gradient_penalty to 0)"
        )


def in_full_precision(tensor: Tensor) -> Tensor:
    """Return `tensor` in at least fp32; losses are sums of many small numbers, for which bf16 is too coarse."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
