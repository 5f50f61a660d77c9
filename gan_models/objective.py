"""Parts that pix2pix and CycleGAN share: named networks, image pools, and the update from a loss."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_models.config import DiscriminatorConfig, GeneratorConfig
from gan_models.image_pool import ImagePool, pool_decisions

Domain = Literal["A", "B"]
Autocast = Callable[[], AbstractContextManager[Any]]
Replay = Callable[[Domain, Tensor], Tensor]
Losses = Sequence[Callable[[], Tensor]]
"""One loss for each micro-batch, computed on demand; their sum is the loss of the whole batch."""
Update = Callable[[Losses, Optimizer], None]


class Optimizers(Protocol):
    """Mapping with one optimiser for all `generators` and one for all `discriminators`."""

    def __getitem__(self, name: Literal["generators", "discriminators"], /) -> Optimizer: ...


def plain_update(losses: Losses, optimizer: Optimizer) -> None:
    """Do one optimiser step down the gradient of the sum of `losses`, with one of their graphs in memory at a time."""
    optimizer.zero_grad(set_to_none=True)
    for compute in losses:
        compute().backward()
    optimizer.step()


class MicroBatch(NamedTuple):
    """Part of a batch, n samples of N, whose graph is in memory by itself."""

    real_a: Tensor
    """Images of domain A, [n, C, H, W]."""
    real_b: Tensor
    """Images of domain B, [n, C, H, W]."""
    share: float
    """Weight of its mean loss in that of the batch, n / N."""


def micro_batches(real_a: Tensor, real_b: Tensor, count: int) -> list[MicroBatch]:
    """Split the batch into `count` parts, as even as possible; into fewer where it has fewer samples."""
    samples = len(real_a)
    count = max(1, min(count, samples))
    if count == 1:
        return [MicroBatch(real_a, real_b, 1.0)]
    if len(real_b) != samples:
        raise ValueError(f"{samples} images of A and {len(real_b)} of B cannot be cut into the same micro-batches")
    parts = zip(real_a.tensor_split(count), real_b.tensor_split(count), strict=True)
    return [MicroBatch(part_a, part_b, len(part_a) / samples) for part_a, part_b in parts]


def tally(found: dict[str, Tensor], losses: Mapping[str, Tensor], share: float) -> None:
    """Add a micro-batch's losses, detached and weighted by its share, to those `found` so far."""
    for name, loss in losses.items():
        part = share * loss.detach()
        found[name] = found[name] + part if name in found else part


class Learned(NamedTuple):
    """A direction that an objective learns, by the names of its networks."""

    source: Domain
    """Domain that is translated into the other one."""
    generator: str
    discriminator: str
    """Judges this direction's translations."""


class Objective:
    """Networks by name, and the state of their training that is neither weights nor optimisers.

    A further objective is a subclass with a `step`, and an entry of `gan_models.OBJECTIVES`.
    """

    config_type: ClassVar[type[Any]]
    """Dataclass of networks and losses, with `generator` and `discriminator` among its fields."""

    paired: ClassVar[bool]
    """True where each image of A belongs to one image of B."""

    learns: ClassVar[tuple[Learned, ...]]
    """Directions, the one from A to B first."""

    step: Callable[..., dict[str, Tensor]]
    """One training step, with the arguments of `Pix2Pix.step`; returns its losses by name, 0-dim and detached."""

    networks: dict[str, nn.Module]
    """Networks themselves, through which weights are trained, saved and moved to a device."""

    forward: dict[str, nn.Module]
    """Networks for the training forward. A trainer replaces entries by wrapped ones (DDP, compiled).

    Generators always go through it, and so do discriminators in their own step. The generators' step uses the bare
    discriminators, frozen: a wrapper must not expect a backward then.
    """

    generator_names: tuple[str, ...]
    discriminator_names: tuple[str, ...]

    pools: dict[str, ImagePool]
    """Earlier fakes of each domain."""

    pool_seed: int
    """Seed from which, together with `steps`, the decisions of `pools` are drawn."""

    steps: int
    """Number of training steps done."""

    def __init__(
        self,
        *,
        generators: Mapping[str, nn.Module],
        discriminators: Mapping[str, nn.Module],
        pools: Mapping[str, ImagePool],
        pool_seed: int,
    ) -> None:
        self.networks = {**generators, **discriminators}
        self.forward = dict(self.networks)
        self.generator_names = tuple(generators)
        self.discriminator_names = tuple(discriminators)
        self.pools = dict(pools)
        self.pool_seed = pool_seed
        self.steps = 0

    def parameters(self, names: Iterable[str]) -> list[nn.Parameter]:
        """Return the parameters of the networks called `names`, for an optimiser."""
        return [parameter for name in names for parameter in self.networks[name].parameters()]

    def query_pool(self, domain: Domain, fake_NCHW: Tensor) -> Tensor:
        """Return what the discriminator of `domain` sees for these fakes, from this process's own pool."""
        pool = self.pools[domain]
        return pool.query(fake_NCHW, pool_decisions(self.pool_seed, self.steps, domain, len(fake_NCHW), pool.size))

    def seen_by_discriminator(self, domain: Domain, fakes: Sequence[Tensor], replay: Replay | None) -> list[Tensor]:
        """Return what the discriminator of `domain` sees for the fakes of each micro-batch, detached.

        The pool is queried once for all of them, so that it changes just as without micro-batches.
        """
        fakes = [fake.detach() for fake in fakes]
        if not self.pools[domain].size:
            return fakes
        whole = fakes[0] if len(fakes) == 1 else torch.cat(fakes)
        return list((replay or self.query_pool)(domain, whole).split([len(fake) for fake in fakes]))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs besides weights and optimisers."""
        return {"steps": self.steps, "pools": {domain: pool.state_dict() for domain, pool in self.pools.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.steps = state["steps"]
        for domain, pool in self.pools.items():
            pool.load_state_dict(state["pools"][domain])


@contextmanager
def frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Keep computations with `networks` inside the block from giving their parameters gradients."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def apply_to_each(network: nn.Module, batches: list[Tensor], *, together: bool) -> list[Tensor]:
    """Apply `network` to each batch; with `together`, in one forward where their shapes allow it.

    This is right only where no sample sees another: not with a batch norm, whose statistics would mix.
    """
    if not together or len({batch.shape[1:] for batch in batches}) > 1:
        return [network(batch) for batch in batches]
    return list(network(torch.cat(batches)).split([len(batch) for batch in batches]))


def keeps_samples_apart(config: GeneratorConfig | DiscriminatorConfig) -> bool:
    """Return True where splitting or joining batches changes no result (but for rounding, and dropout's draws)."""
    return config.norm != "batch"


def check_images(name: str, images_NCHW: Tensor, channels: int, multiple: int) -> None:
    """Raise one clear ValueError for a batch that the generator cannot take."""
    shape = list(images_NCHW.shape)
    if images_NCHW.ndim != 4 or shape[1] != channels:
        raise ValueError(f"{name} has shape {shape}: it must be [N, {channels}, H, W], as the generator's channels are")
    if shape[2] % multiple or shape[3] % multiple:
        raise ValueError(f"{name} is {shape[3]}×{shape[2]} pixels: this generator needs multiples of {multiple}")
