"""A model bundle: trained generators that know their architecture, as a few files.

    config.json            what the networks are, and where they come from
    a_to_b.safetensors     the weights of the generator of that direction; CycleGAN has b_to_a, too
    README.md              a card for people
    sample.png             a picture for the card, if there is one

A bundle is read and written through callables, so that it can lie anywhere; a local folder is understood as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from gan_models.build import build_generator
from gan_models.card import model_card
from gan_models.config import GeneratorConfig
from gan_models.pixels import from_uint8, pad_by_reflection, to_uint8
from gan_models.translation import translation_mode

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT_VERSION = 1

Direction = Literal["a_to_b", "b_to_a"]
ObjectiveName = Literal["pix2pix", "cyclegan"]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Trained generators, ready to translate."""

    objective: str
    """`pix2pix` or `cyclegan`."""

    generators: Mapping[str, nn.Module]
    """By direction, the default first, in evaluation mode. For translation see `translation_mode`."""

    generator_configs: Mapping[str, GeneratorConfig]
    """The architecture of each, by direction."""

    training_size: int
    """Side of the square crops that it was trained on, in pixels."""

    provenance: Mapping[str, Any]
    """What the trainer noted: recipe, step, versions."""

    sha256: str
    """Fingerprint of the weights and the architectures of all generators of the bundle, loaded or not."""

    value_range: tuple[float, float] = (-1.0, 1.0)
    """Of the generators' inputs and outputs."""

    @property
    def directions(self) -> tuple[str, ...]:
        """What it translates, the default first."""
        return tuple(self.generators)

    @property
    def generator_config(self) -> GeneratorConfig:
        """The architecture of the default direction."""
        return self.generator_configs[self.directions[0]]

    def generator(self, direction: str | None = None) -> nn.Module:
        """The bare network of `direction` (default: the first), in evaluation mode, on the CPU."""
        chosen = direction or self.directions[0]
        if chosen not in self.generators:
            raise ValueError(f"the bundle has no generator {chosen}: it has {', '.join(self.directions)}")
        return self.generators[chosen]

    def __call__(self, image: Image, direction: str | None = None) -> Image:
        """The translation of a Pillow image, at its own size. Needs Pillow."""
        from PIL import Image as PillowImage

        network = self.generator(direction)
        config = self.generator_configs[direction or self.directions[0]]
        modes = {1: "L", 3: "RGB", 4: "RGBA"}
        for name, channels in (("takes", config.in_channels), ("gives", config.out_channels)):
            if channels not in modes:
                raise ValueError(f"the generator {name} {channels} channels, and a Pillow image has 1, 3 or 4")
        source = image.convert(modes[config.in_channels])
        pixels = torch.frombuffer(bytearray(source.tobytes()), dtype=torch.uint8)
        pixels_CHW = pixels.view(source.height, source.width, config.in_channels).permute(2, 0, 1)
        first = next(network.parameters())
        with torch.inference_mode():
            padded_NCHW = pad_by_reflection(from_uint8(pixels_CHW[None]), config.size_multiple)
            output_NCHW = translation_mode(network)(padded_NCHW.to(first.device, first.dtype))
            output_HWC = to_uint8(output_NCHW[0, :, : source.height, : source.width]).permute(1, 2, 0).cpu()
        data = bytearray(output_HWC.numel())
        torch.frombuffer(data, dtype=torch.uint8).view(output_HWC.shape).copy_(output_HWC)
        return PillowImage.frombytes(modes[config.out_channels], source.size, bytes(data))


def save_bundle(
    write: Callable[[str, bytes], None],
    *,
    objective: ObjectiveName,
    generators: Mapping[str, tuple[GeneratorConfig, Mapping[str, Tensor]]],
    direction: Direction,
    training_size: int,
    provenance: Mapping[str, Any],
    card_image: bytes | None = None,
) -> str:
    """Write a bundle through `write(name, data)`, config.json last; returns its fingerprint.

    `generators` are the architecture and the state_dict by direction (`a_to_b`, `b_to_a`); `direction` is the default
    one. `provenance` is anything that JSON holds. `card_image` is a PNG for the card.
    """
    for name in (direction, *generators):
        if name not in get_args(Direction):
            raise ValueError(f"a generator's direction is {name!r}: it must be one of {', '.join(get_args(Direction))}")
    if direction not in generators:
        raise ValueError(f"the direction is {direction}, and the generators are {', '.join(generators)}")
    weights = {name: safetensors.save(_portable(state)) for name, (_, state) in generators.items()}
    entries = {
        name: {"architecture": dataclasses.asdict(config), "weights_sha256": _sha256(weights[name])}
        for name, (config, _) in generators.items()
    }
    config = {
        "format_version": FORMAT_VERSION,
        "objective": objective,
        "direction": direction,
        "generators": entries,
        "training_size": training_size,
        "value_range": [-1.0, 1.0],
        "provenance": dict(provenance),
    }
    for name, data in weights.items():
        write(f"{name}.safetensors", data)
    if card_image is not None:
        write("sample.png", card_image)
    write("README.md", model_card(config, with_sample=card_image is not None).encode())
    write("config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    return _bundle_fingerprint(entries)


def load_bundle(source: str | Path | Callable[[str], bytes], *, generator: str | None = None) -> Bundle:
    """The bundle in a local folder, or behind a callable that reads a file by its name.

    `generator` loads that direction only. Whatever does not fit is a ValueError of one line: a file that is missing or
    damaged, a format that this version does not know, a tensor too many, too few or of another shape.
    """
    place = "the bundle" if callable(source) else str(source)
    read = source if callable(source) else lambda name: (Path(source) / name).read_bytes()
    config = _read_config(read, place)
    entries = config["generators"]
    names = sorted(entries, key=lambda name: name != config["direction"])
    if generator is not None:
        if generator not in entries:
            raise ValueError(f"{place} has no generator {generator}: it has {', '.join(names)}")
        names = [generator]
    configs = {name: _architecture(entries[name], place) for name in names}
    return Bundle(
        objective=config["objective"],
        generators={
            name: _load_generator(configs[name], entries[name], _read(read, f"{name}.safetensors", place), place, name)
            for name in names
        },
        generator_configs=configs,
        training_size=config["training_size"],
        provenance=config["provenance"],
        sha256=_bundle_fingerprint(entries),
    )


def _read(read: Callable[[str], bytes], name: str, place: str) -> bytes:
    try:
        return read(name)
    except (FileNotFoundError, NotADirectoryError, KeyError):
        raise ValueError(f"{place} is no model bundle, or not a whole one: it has no {name}") from None


def _read_config(read: Callable[[str], bytes], place: str) -> dict[str, Any]:
    try:
        config = json.loads(_read(read, "config.json", place))
        version = config["format_version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise ValueError(f"{place} is no model bundle: its config.json is not one of ours") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{place} has bundle format {version}, and this version knows {FORMAT_VERSION}: use a newer one"
        )
    expected = ("objective", "direction", "generators", "training_size", "provenance")
    missing = [name for name in expected if name not in config]
    if missing or config["direction"] not in config["generators"]:
        raise ValueError(f"{place} has a damaged config.json: {', '.join(missing) or 'its direction'} is missing")
    return config


def _architecture(entry: Mapping[str, Any], place: str) -> GeneratorConfig:
    try:
        return GeneratorConfig(**entry["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} has an architecture that this version cannot build: {error}") from None


def _load_generator(config: GeneratorConfig, entry: Mapping[str, Any], data: bytes, place: str, name: str) -> nn.Module:
    try:
        state = safetensors.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{place}: {name}.safetensors is damaged: {error}") from None
    # Built without memory first, so that loading draws nothing from torch's random generator.
    with torch.device("meta"):
        network = build_generator(config).eval()
    expected = network.state_dict()
    wrong = [f"{key} is missing" for key in expected if key not in state]
    wrong += [f"{key} is unexpected" for key in state if key not in expected]
    wrong += [
        f"{key} has shape {list(state[key].shape)} and should have {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ValueError(f"{place}: {name}.safetensors does not fit config.json: {'; '.join(wrong[:3])}{more}")
    if _sha256(data) != entry.get("weights_sha256"):
        raise ValueError(f"{place}: {name}.safetensors is not the file that config.json was written for")
    network.to_empty(device="cpu").load_state_dict(state)
    return network


def _portable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` on the CPU, detached and in one piece each, as safetensors wants it."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _bundle_fingerprint(entries: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(entries, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
