"""`python -m gan_models`: the networks of the articles, with their parameters, arithmetic and receptive field."""

from gan_models.complexity import complexity
from gan_models.config import DiscriminatorConfig, GeneratorConfig

SIZE = 256

NETWORKS: dict[str, GeneratorConfig | DiscriminatorConfig] = {
    "ResNet, 9 blocks": GeneratorConfig(kind="resnet", depth=9, norm="instance"),
    "ResNet, 6 blocks": GeneratorConfig(kind="resnet", depth=6, norm="instance"),
    "U-Net 256": GeneratorConfig(kind="unet", depth=8),
    "U-Net 128": GeneratorConfig(kind="unet", depth=7),
    "PatchGAN 16×16": DiscriminatorConfig(layers=1),
    "PatchGAN 70×70": DiscriminatorConfig(layers=3),
    "PatchGAN 70×70, pairs": DiscriminatorConfig(layers=3, in_channels=6, norm="batch"),
    "PatchGAN 286×286": DiscriminatorConfig(layers=5),
    "PixelGAN": DiscriminatorConfig(kind="pixel"),
}


def table() -> str:
    """Return one line for each network."""
    lines = [f"{'at ' + str(SIZE) + '²':<24}{'norm':<10}{'channels':<10}{'parameters':>12}{'GFLOP':>9}{'sees':>10}"]
    for name, config in NETWORKS.items():
        cost = complexity(config, SIZE)
        channels = f"{config.in_channels} to {config.out_channels if isinstance(config, GeneratorConfig) else 1}"
        sees = f"{cost.receptive_field}²"
        lines.append(
            f"{name:<24}{config.norm:<10}{channels:<10}{cost.parameters:>12,}{cost.flop / 1e9:>9.2f}{sees:>10}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
