"""Contents of a bundle as its config.json names them, read without torch. The layout is in `gan_models.bundle`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from gan_models.config import DiscriminatorConfig, GeneratorConfig

FORMAT_VERSION = 1

ObjectiveName = Literal["pix2pix", "cyclegan"]
Reader = Callable[[str], bytes]
Config = TypeVar("Config", GeneratorConfig, DiscriminatorConfig)


class WeightsFile(NamedTuple):
    """File with the weights of one network."""

    name: str
    sha256: str
    """Checksum that it has had since the bundle was written."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is known of a bundle before its weights are read."""

    place: str
    """Name of the bundle in messages."""
    read: Reader
    """Function that reads a file of the bundle by its name."""
    objective: str
    """Name of the objective: `pix2pix` or `cyclegan`."""
    generator_configs: Mapping[str, GeneratorConfig]
    """Architecture of each generator, by direction, the default first."""
    training_size: int
    """Side of the square training crops, in pixels."""
    provenance: Mapping[str, Any]
    """Notes of the trainer: recipe, step, versions."""
    sha256: str
    """Fingerprint of the weights and the architectures of all generators."""
    files: Mapping[str, WeightsFile]
    """Weights of each generator, by direction, and of each discriminator, by DIRECTION.discriminator."""
    discriminator_configs: Mapping[str, DiscriminatorConfig] = field(default_factory=dict)
    """Architecture of each discriminator, by the direction that it judges, if they were asked for."""

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions that the bundle translates, the default first."""
        return tuple(self.generator_configs)

    def check(self, direction: str) -> None:
        """Read the weights of one direction. Raises ValueError where they are missing, or not those of the bundle."""
        file = self.files[direction]
        check_file(read_file(self.read, file.name, self.place), file, self.place)


def describe_bundle(source: str | Path | Reader, *, ema: bool = True, discriminators: bool = False) -> Description:
    """Return what config.json says; the parameters are those of `gan_models.load_bundle`.

    Raises ValueError of one line where it is missing or damaged, or has a format or an architecture that this version
    does not know.
    """
    place = "the bundle" if callable(source) else str(source)
    read = source if callable(source) else lambda name: (Path(source) / name).read_bytes()
    config = _read_config(read, place)
    averages, judges = config.get("ema", {}), config.get("discriminators", {}) if discriminators else {}
    entries = config["generators"] | averages if ema else config["generators"]
    names = sorted(entries, key=lambda name: name != config["direction"])
    stems = {name: f"{name}.ema" if ema and name in averages else name for name in names}
    files = {name: WeightsFile(f"{stems[name]}.safetensors", entries[name].get("weights_sha256")) for name in names}
    for name, entry in judges.items():
        files[f"{name}.discriminator"] = WeightsFile(f"{name}.discriminator.safetensors", entry.get("weights_sha256"))
    return Description(
        place=place,
        read=read,
        objective=config["objective"],
        generator_configs={name: _architecture(GeneratorConfig, entries[name], place) for name in names},
        training_size=config["training_size"],
        provenance=config["provenance"],
        sha256=fingerprint(entries),
        files=files,
        discriminator_configs={
            name: _architecture(DiscriminatorConfig, entry, place) for name, entry in judges.items() if name in names
        },
    )


def read_file(read: Reader, name: str, place: str) -> bytes:
    """Return a file of a bundle. Raises ValueError where it has none of this name."""
    try:
        return read(name)
    except (FileNotFoundError, NotADirectoryError, KeyError):
        raise ValueError(f"{place} is no model bundle, or not a whole one: it has no {name}") from None


def _read_config(read: Reader, place: str) -> dict[str, Any]:
    try:
        config = json.loads(read_file(read, "config.json", place))
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


def _architecture(kind: type[Config], entry: Mapping[str, Any], place: str) -> Config:
    try:
        return kind(**entry["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} has an architecture that this version cannot build: {error}") from None


def check_file(data: bytes, file: WeightsFile, place: str) -> None:
    """Raise ValueError where a file is not the one that config.json was written for."""
    if sha256_of(data) != file.sha256:
        raise ValueError(f"{place}: {file.name} is not the file that config.json was written for")


def fingerprint(entries: Mapping[str, Any]) -> str:
    """Return the fingerprint of the networks that these entries of config.json describe."""
    return sha256_of(json.dumps(entries, sort_keys=True).encode())


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
