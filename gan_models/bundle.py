"""Model bundle: trained networks that know their architecture, as a few files.

    config.json                        what the networks are, and where they come from
    a_to_b.safetensors                 weights of that direction's generator; CycleGAN has b_to_a, too
    a_to_b.ema.safetensors             their moving average over the training steps, if the trainer kept one
    a_to_b.discriminator.safetensors   weights of that direction's discriminator, if the trainer left it
    README.md                          a card for people
    sample.png                         a sample image for the card, if there is one

A bundle is read and written through callables, so that it can be stored anywhere; a local folder works, too. The layout
is also that of a model hub.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from gan_models.card import Result, model_card
from gan_models.config import Direction, DiscriminatorConfig, GeneratorConfig
from gan_models.description import (
    FORMAT_VERSION,
    ObjectiveName,
    Reader,
    WeightsFile,
    check_file,
    describe_bundle,
    fingerprint,
    read_file,
    sha256_of,
)
from gan_models.picture import translate_picture
from gan_models.weights import network_with

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Trained generators, ready to translate."""

    objective: str
    """Name of the objective: `pix2pix` or `cyclegan`."""

    generators: Mapping[str, nn.Module]
    """Generators by direction, the default first, in evaluation mode. For translation see `translation_mode`."""

    generator_configs: Mapping[str, GeneratorConfig]
    """Architecture of each generator, by direction."""

    training_size: int
    """Side of the square training crops, in pixels."""

    provenance: Mapping[str, Any]
    """Notes of the trainer: recipe, step, versions."""

    sha256: str
    """Fingerprint of the weights and the architectures of all generators of the bundle, loaded or not."""

    discriminators: Mapping[str, nn.Module] = field(default_factory=dict)
    """Discriminators by the direction that they judge (pix2pix: source and translation), if they were asked for."""

    discriminator_configs: Mapping[str, DiscriminatorConfig] = field(default_factory=dict)
    """Architecture of each discriminator, by direction."""

    value_range: tuple[float, float] = (-1.0, 1.0)
    """Range of the generators' inputs and outputs."""

    @classmethod
    def from_pretrained(cls, source: str | Path | Reader, **settings: Any) -> Bundle:
        """Call `load_bundle`, under the name that users of model hubs look for."""
        return load_bundle(source, **settings)

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions that the bundle translates, the default first."""
        return tuple(self.generators)

    @property
    def generator_config(self) -> GeneratorConfig:
        """Architecture of the default direction."""
        return self.generator_configs[self.directions[0]]

    def generator(self, direction: str | None = None) -> nn.Module:
        """Return the bare network of `direction` (default: the first), in evaluation mode, on the CPU."""
        chosen = direction or self.directions[0]
        if chosen not in self.generators:
            raise ValueError(f"the bundle has no generator {chosen}: it has {', '.join(self.directions)}")
        return self.generators[chosen]

    def __call__(self, image: Image, direction: str | None = None) -> Image:
        """Translate a Pillow image at its own size. Needs Pillow."""
        chosen = direction or self.directions[0]
        return translate_picture(self.generator(chosen), self.generator_configs[chosen], image)


def save_bundle(
    destination: str | Path | Callable[[str, bytes], None],
    *,
    objective: ObjectiveName,
    generators: Mapping[str, tuple[GeneratorConfig, Mapping[str, Tensor]]],
    direction: Direction,
    training_size: int,
    provenance: Mapping[str, Any],
    ema: Mapping[str, Mapping[str, Tensor]] | None = None,
    discriminators: Mapping[str, tuple[DiscriminatorConfig, Mapping[str, Tensor]]] | None = None,
    card_image: bytes | None = None,
    results: Sequence[Result] = (),
) -> str:
    """Write a bundle to a local folder or through `destination(name, data)`, config.json last; return its fingerprint.

    `generators` maps each direction (`a_to_b`, `b_to_a`) to an architecture and a state_dict; `direction` is the
    default one. `ema` holds moving averages of generators' weights, `discriminators` the networks that judged a
    direction's translations. `provenance` may be anything that JSON can hold. `card_image` is a PNG for the card, and
    `results` are what was measured of these networks, as `gan_models.card` describes it.
    """
    ema, discriminators = ema or {}, discriminators or {}
    for name in (direction, *generators, *discriminators):
        if name not in get_args(Direction):
            raise ValueError(f"a generator's direction is {name!r}: it must be one of {', '.join(get_args(Direction))}")
    if direction not in generators or not ema.keys() <= generators.keys():
        names = ", ".join({direction: None} | dict.fromkeys(ema))
        raise ValueError(f"the direction is {names}, and the generators are {', '.join(generators)}")
    files: dict[str, bytes] = {}

    def entry(name: str, architecture: GeneratorConfig | DiscriminatorConfig, state: Mapping[str, Tensor]) -> dict:
        files[f"{name}.safetensors"] = safetensors.save(_portable(state))
        return {
            "architecture": (
                architecture.record() if isinstance(architecture, GeneratorConfig) else dataclasses.asdict(architecture)
            ),
            "weights_sha256": sha256_of(files[f"{name}.safetensors"]),
        }

    entries = {name: entry(name, *network) for name, network in generators.items()}
    averages = {name: entry(f"{name}.ema", generators[name][0], state) for name, state in ema.items()}
    judges = {name: entry(f"{name}.discriminator", *network) for name, network in discriminators.items()}
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "objective": objective,
        "direction": direction,
        "generators": entries,
        "training_size": training_size,
        "value_range": [-1.0, 1.0],
        "provenance": dict(provenance),
    }
    more: dict[str, Any] = {"ema": averages, "discriminators": judges, "results": [dict(result) for result in results]}
    config |= {name: value for name, value in more.items() if value}
    write = destination if callable(destination) else _folder_writer(Path(destination))
    for name, data in files.items():
        write(name, data)
    if card_image is not None:
        write("sample.png", card_image)
    write("README.md", model_card(config, with_sample=card_image is not None).encode())
    write("config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    return fingerprint(entries | averages)


def load_bundle(
    source: str | Path | Reader,
    *,
    generator: str | None = None,
    ema: bool = True,
    discriminators: bool = False,
) -> Bundle:
    """Load the bundle in a local folder, or behind a callable that reads a file by its name.

    `generator` loads only that direction. `ema` prefers the moving average of the weights where the bundle has it.
    `discriminators` loads those, too. Raises ValueError of one line for anything that does not fit: a missing or
    damaged file, a format that this version does not know, a missing or unexpected tensor, or one of another shape.
    """
    described = describe_bundle(source, ema=ema, discriminators=discriminators)
    place, read, names = described.place, described.read, list(described.generator_configs)
    if generator is not None:
        if generator not in names:
            raise ValueError(f"{place} has no generator {generator}: it has {', '.join(names)}")
        names = [generator]
    networks = {name: _load(described.generator_configs[name], described.files[name], read, place) for name in names}
    judges = {
        name: _load(config, described.files[f"{name}.discriminator"], read, place)
        for name, config in described.discriminator_configs.items()
        if name in names
    }
    return Bundle(
        objective=described.objective,
        generators=networks,
        generator_configs={name: described.generator_configs[name] for name in names},
        training_size=described.training_size,
        provenance=described.provenance,
        sha256=described.sha256,
        discriminators=judges,
        discriminator_configs={name: described.discriminator_configs[name] for name in judges},
    )


def _folder_writer(folder: Path) -> Callable[[str, bytes], None]:
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    return write


def _load(config: GeneratorConfig | DiscriminatorConfig, file: WeightsFile, read: Reader, place: str) -> nn.Module:
    data = read_file(read, file.name, place)
    try:
        state = safetensors.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{place}: {file.name} is damaged: {error}") from None
    try:
        network = network_with(config, state)
    except ValueError as error:
        raise ValueError(f"{place}: {file.name} does not fit config.json: {error}") from None
    check_file(data, file, place)
    return network


def _portable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` on the CPU, detached and with contiguous tensors, as safetensors requires."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
