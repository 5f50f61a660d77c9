"""Architecture of a generator and of a discriminator, as plain data.

Nothing here imports torch, so a configuration can be read, checked and written without it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

Norm = Literal["batch", "layer", "instance", "group", "none"]
GeneratorKind = Literal["unet", "resnet"]
DiscriminatorKind = Literal["patch", "pixel"]
GanLoss = Literal["vanilla", "lsgan", "hinge", "wgangp"]
Direction = Literal["a_to_b", "b_to_a"]
_LEFT_OUT = {("in_bits", 8), ("out_bits", 8)}
OPPOSITE: dict[Direction, Direction] = {"a_to_b": "b_to_a", "b_to_a": "a_to_b"}


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A generator. The defaults are the U-Net 256 of pix2pix (without the dropout, which belongs to that recipe)."""

    kind: GeneratorKind = "unet"
    """`unet`: encoder and decoder with skips (Isola et al. 2017, 6.1.1). `resnet`: Johnson's (Zhu et al. 2017, 7.2)."""

    in_channels: int = 3
    """Number of channels of the source domain's images."""

    out_channels: int = 3
    """Number of channels of the target domain's images."""

    in_bits: int = 8
    """Bits of a channel of the source domain's images, 8 or 16; the network sees 0 to the largest value as -1 to 1."""

    out_bits: int = 8
    """Bits of a channel of the target domain's images, 8 or 16."""

    width: int = 64
    """Number of channels after the first convolution (`ngf`); all others are multiples of it."""

    depth: int = 8
    """U-Net: halvings of the image (8 for 256², 7 for 128²). ResNet: residual blocks (9 for 256², 6 for 128²)."""

    norm: Norm = "batch"
    """Normalisation after the inner convolutions; `layer` covers all channels and the whole image."""

    dropout: bool = False
    """Drop half of the values during training, in a U-Net's innermost wide blocks or in every residual block."""

    groups: int = 32
    """Number of groups of a group norm (Wu and He 2018); other norms ignore it."""

    affine: bool = False
    """Learn a scale and a shift in instance norm, unlike the published models. The other norms always do."""

    def __post_init__(self) -> None:
        check_choice("generator.kind", self.kind, get_args(GeneratorKind))
        check_at_least("generator.in_channels", self.in_channels, 1)
        check_at_least("generator.out_channels", self.out_channels, 1)
        check_choice("generator.in_bits", self.in_bits, (8, 16))
        check_choice("generator.out_bits", self.out_bits, (8, 16))
        check_at_least("generator.depth", self.depth, 2 if self.kind == "unet" else 1)
        _check_norm("generator", self.norm, self.width, self.groups, self.affine)

    def record(self) -> dict[str, Any]:
        """Return the fields as bundles and runs keep them: without bits of 8, as before there were others."""
        return {name: value for name, value in asdict(self).items() if (name, value) not in _LEFT_OUT}

    def reversed(self) -> "GeneratorConfig":
        """Return the architecture of the way back, from the target domain to the source domain."""
        return replace(
            self, in_channels=self.out_channels, out_channels=self.in_channels, in_bits=self.out_bits,
            out_bits=self.in_bits,
        )  # fmt: skip

    @property
    def size_multiple(self) -> int:
        """Number of which an input's height and width must be multiples, so that the output has the same size."""
        return 2**self.depth if self.kind == "unet" else 4

    @property
    def least_size(self) -> int:
        """Least height and width of an input: a ResNet's blocks pad by reflection, which 1×1 does not allow."""
        return self.size_multiple if self.kind == "unet" else 8

    @property
    def values_held(self) -> int:
        """Number of values that are held at once for a pixel of the image, where all layers run over the whole of it.

        A ResNet's last convolution takes its input, a mirrored copy, and those that a library orders anew, with few
        channels filled up to 16. A U-Net's widest layers have a quarter of the pixels. (`jobs.benchmark tiles` measures
        both.)
        """
        return max(4 * self.width, self.width + 16) if self.kind == "resnet" else 2 * max(self.width, 8)

    def flop(self, pixels: float) -> float:
        """Return the multiplications and additions in the convolutions for an image of so many pixels.

        The same as `gan_models.complexity.flop_of` counts, without torch.
        """
        products = 0.0  # for one pixel of the image
        if self.kind == "unet":
            for level in range(self.depth):
                inner, outer = (self.width * min(2 ** max(each, 0), 8) for each in (level, level - 1))
                taken, given = (self.in_channels, self.out_channels) if level == 0 else (outer, outer)
                joined = inner if level == self.depth - 1 else 2 * inner  # with the skip
                products += 16 * (taken * inner + joined * given) / 4 ** (level + 1)
        else:
            w = self.width
            products += 49 * w * (self.in_channels + self.out_channels)
            products += 9 * (w * 2 * w / 4 + 2 * w * 4 * w / 16) * 2  # down, and up again
            products += self.depth * 2 * 9 * (4 * w) ** 2 / 16
        return 2 * products * pixels


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """A discriminator. The defaults are the 70×70 PatchGAN of CycleGAN (Isola et al. 2017, 6.1.2)."""

    kind: DiscriminatorKind = "patch"
    """`patch` judges overlapping patches, `pixel` each pixel by itself (1×1 convolutions)."""

    in_channels: int = 3
    """Number of channels that it sees: those of an image; for pix2pix, those of source and target together."""

    width: int = 64
    """Number of channels after the first convolution (`ndf`)."""

    layers: int = 3
    """PatchGAN: convolutions of stride 2, which set the patch size: 1 is 16×16, 3 is 70×70, 5 is 286×286."""

    norm: Norm = "instance"
    """Normalisation after the inner convolutions."""

    groups: int = 32
    """Number of groups of a group norm; other norms ignore it."""

    affine: bool = False
    """Learn a scale and a shift in instance norm."""

    def __post_init__(self) -> None:
        check_choice("discriminator.kind", self.kind, get_args(DiscriminatorKind))
        check_at_least("discriminator.in_channels", self.in_channels, 1)
        check_at_least("discriminator.layers", self.layers, 1)
        _check_norm("discriminator", self.norm, self.width, self.groups, self.affine)

    @property
    def least_size(self) -> int:
        """Least height and width of an input, so that there is an output, and 2×2 values in the last norm."""
        return 2 if self.kind == "pixel" else 3 * 2**self.layers

    @property
    def receptive_field(self) -> int:
        """Side, in pixels, of the square of the input that one output value sees."""
        if self.kind == "pixel":
            return 1
        side = 1
        for stride in (1, 1, *([2] * self.layers)):  # from the output back to the input; all kernels are 4×4
            side = (side - 1) * stride + 4
        return side


def check_choice(name: str, value: str | int, choices: tuple[str, ...] | tuple[int, ...]) -> None:
    """Raise ValueError where the `value` of the setting `name` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(str, choices))}")


def check_not_negative(name: str, value: float) -> None:
    """Raise ValueError where the `value` of the setting `name` is below 0 or not a number."""
    if not value >= 0:
        raise ValueError(f"{name} is {value}: it must not be negative; 0 leaves it out")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise ValueError where the `value` of the setting `name` is below `least`."""
    if value < least:
        raise ValueError(f"{name} is {value}: it must be at least {least}; raise it to {least} or more")


def _check_norm(owner: str, norm: str, width: int, groups: int, affine: bool) -> None:
    check_choice(f"{owner}.norm", norm, get_args(Norm))
    check_at_least(f"{owner}.width", width, 1)
    check_at_least(f"{owner}.groups", groups, 1)
    if norm == "group" and width % groups:
        raise ValueError(
            f"{owner}.groups is {groups} and {owner}.width {width}: a group norm needs a width that its groups divide; "
            f"set {owner}.groups to a divisor of {width}"
        )
    if affine and norm != "instance":
        raise ValueError(
            f"{owner}.affine is true with norm {norm}: it is a choice of instance norm only; leave {owner}.affine out"
        )
