"""Import of the reference implementation's checkpoint files into a model bundle.

The files are named by role. G, or G_A, translates in the direction of the training, and G_B in the other; D_A judges
the output of G_A, and D_B that of G_B. All files are checked to belong together before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gan_models import GeneratorConfig, save_bundle
from gan_models.config import OPPOSITE, Direction
from gan_models.description import ObjectiveName
from gan_models.reference import Recognised, describe, read_checkpoint, recognise
from pipeline import storage
from pipeline.errors import UserError
from pipeline.exchange.import_config import ImportConfig
from pipeline.recipe import differences
from pipeline.storage.retry import preflight

_NAME = re.compile(r"(?P<epoch>latest|\d+|iter_\d+)_net_(?P<role>[GD](?:_[AB])?)\.pth")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint file that was read."""

    role: str
    """Role of the network: G, G_A, G_B, D, D_A or D_B."""
    name: str
    sha256: str
    """Hash of the file."""
    recognised: Recognised

    @property
    def config(self) -> Any:
        """Return a GeneratorConfig where the role begins with G, else a DiscriminatorConfig."""
        return self.recognised.config

    def __str__(self) -> str:
        return f"{self.name} ({self.role}): {describe(self.recognised.config)}"


@dataclass(frozen=True, kw_only=True)
class Import:
    """Bundle that is ready to be written."""

    url: str
    objective: ObjectiveName
    checkpoints: tuple[Checkpoint, ...]
    directions: tuple[Direction, ...]
    """Directions that it translates, the default first."""
    files: Mapping[str, bytes]
    """Contents of the files by name, config.json last."""
    fingerprint: str
    """Fingerprint of the generators; a loaded bundle calls it its sha256."""
    is_there: bool
    """True where the output already holds the same bundle."""

    def __str__(self) -> str:
        return f"{self.url}: {self.objective} bundle, {', '.join(self.directions)}, fingerprint {self.fingerprint}"

    def write(self) -> None:
        """Write the files where the bundle is not there yet.

        A kill leaves no config.json, and so no bundle; the next run begins again.
        """
        if not self.is_there:
            for name, data in self.files.items():
                storage.replace(storage.join(self.url, name), data)


def prepare(config: ImportConfig) -> Import:
    """Read, recognise and check all files that `config` names, without writing.

    Raises UserError, in one line, where they cannot become a bundle, or where the output holds something else.
    """
    config = replace(config, input=storage.absolute(config.input), output=storage.absolute(config.output))
    with preflight(config.input):
        read = {role: _read(role, entry) for role, entry in sorted(_find(config).items())}
    _check_roles(read, config)
    objective = _objective(read)
    _check_channels(read, objective, config)
    _check_size(read, config)
    directions = tuple(_direction(role, config) for role in read if role.startswith("G"))
    files: dict[str, bytes] = {}
    fingerprint = save_bundle(
        files.__setitem__,
        objective=objective,
        generators=_by_direction(read, "G", config),
        discriminators=_by_direction(read, "D", config),
        direction=directions[0],
        training_size=config.training_size,
        provenance={"imported_from": "pytorch-CycleGAN-and-pix2pix", "files": [_account(c) for c in read.values()]},
    )
    with preflight(config.output):
        is_there = _is_there(config.output, files)
    if not is_there and not config.dry_run:
        storage.check_output(config.output)
    return Import(
        url=config.output,
        objective=objective,
        checkpoints=tuple(read.values()),
        directions=directions,
        files=files,
        fingerprint=fingerprint,
        is_there=is_there,
    )


def _find(config: ImportConfig) -> dict[str, storage.Entry]:
    """Return the files to read, by role."""
    if single := storage.stat_file(config.input):
        match = _NAME.fullmatch(single.name)
        return {match["role"] if match else "G": single}
    named = [(match, e) for e in storage.list_files(config.input, ".pth") if (match := _NAME.fullmatch(e.name))]
    if not named:
        raise UserError(
            f"{config.input}: no checkpoint there; it is a .pth file, or a folder with names such as latest_net_G.pth"
        )
    found = {match["role"]: entry for match, entry in named if match["epoch"] == config.epoch}
    if not found:
        epochs = ", ".join(sorted({match["epoch"] for match, _ in named}, key=lambda epoch: (len(epoch), epoch)))
        raise UserError(f"{config.input}: no checkpoint of epoch {config.epoch}; it has {epochs}: choose by --epoch")
    return found


def _read(role: str, entry: storage.Entry) -> Checkpoint:
    data = storage.read(entry.url)
    try:
        recognised = recognise(read_checkpoint(data))
    except ValueError as error:
        raise UserError(f"{entry.url}: {error}") from error
    if isinstance(recognised.config, GeneratorConfig) != role.startswith("G"):
        wanted = "generator" if role.startswith("G") else "discriminator"
        raise UserError(f"{entry.url}: it is taken for a {wanted} ({role}), and holds {describe(recognised.config)}")
    return Checkpoint(role=role, name=entry.name, sha256=hashlib.sha256(data).hexdigest(), recognised=recognised)


def _check_roles(read: Mapping[str, Checkpoint], config: ImportConfig) -> None:
    names = ", ".join(checkpoint.name for checkpoint in read.values())
    generators = [role for role in read if role.startswith("G")]
    if not generators:
        raise UserError(f"{config.input}: a bundle needs a generator, and there is {names} alone")
    if "G" in generators and len(generators) > 1:
        raise UserError(f"{config.input}: a lone G stands without G_A and G_B, and there is {names}; take one out")
    for role in read.keys() - generators:
        if (judged := role.replace("D", "G")) not in read:
            raise UserError(f"{config.input}: {read[role].name} judges what {judged} makes, and there is no {judged}")


def _objective(read: Mapping[str, Checkpoint]) -> ObjectiveName:
    """Tell pix2pix from CycleGAN.

    A lone G belongs to pix2pix where its discriminator sees source and target or, without a discriminator, where it is
    a U-Net. (The published CycleGAN models are a lone G, too, and ResNets.)
    """
    if "G" not in read:
        return "cyclegan"
    generator = read["G"].config
    if "D" in read:
        both = generator.in_channels + generator.out_channels
        return "pix2pix" if read["D"].config.in_channels == both else "cyclegan"
    return "pix2pix" if generator.kind == "unet" else "cyclegan"


def _check_channels(read: Mapping[str, Checkpoint], objective: ObjectiveName, config: ImportConfig) -> None:
    """Check that each generator takes what the other one returns, and each discriminator what its generator does."""
    if "G_A" in read and "G_B" in read:
        forth, back = read["G_A"].config, read["G_B"].config
        if (forth.in_channels, forth.out_channels) != (back.out_channels, back.in_channels):
            raise UserError(f"{config.input}: one does not undo the other: {read['G_A']}; {read['G_B']}")
    for role in read:
        if role.startswith("D") and objective == "cyclegan":
            judged = read[role.replace("D", "G")]
            if read[role].config.in_channels != judged.config.out_channels:
                raise UserError(f"{config.input}: one does not take what the other makes: {read[role]}; {judged}")


def _check_size(read: Mapping[str, Checkpoint], config: ImportConfig) -> None:
    for role, checkpoint in read.items():
        if role.startswith("G") and config.training_size % checkpoint.config.size_multiple:
            raise UserError(
                f"training_size is {config.training_size}, and {checkpoint} takes multiples of "
                f"{checkpoint.config.size_multiple}; give the --training_size that it was trained on"
            )


def _direction(role: str, config: ImportConfig) -> Direction:
    return OPPOSITE[config.direction] if role.endswith("_B") else config.direction


def _by_direction(read: Mapping[str, Checkpoint], kind: str, config: ImportConfig) -> dict[str, tuple[Any, Any]]:
    """Return configuration and state of the generators (`G`) or discriminators (`D`), by direction."""
    return {
        _direction(role, config): (c.config, c.recognised.state) for role, c in read.items() if role.startswith(kind)
    }


def _account(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "role": checkpoint.role,
        "sha256": checkpoint.sha256,
        "recognised": describe(checkpoint.recognised.config),
        "notes": list(checkpoint.recognised.notes),
    }


def _is_there(url: str, files: Mapping[str, bytes]) -> bool:
    """Return True where `url` already holds the whole bundle of `files`.

    Raises UserError where something else is there. Source and date of the import make no difference; the provenance
    that is there stays.
    """
    there = {entry.name: entry.size for entry in storage.list_files(url)}
    if "config.json" not in there:
        if strangers := [name for name in there if name not in files and not storage.is_leftover(name)]:
            raise UserError(f"{url}: something else is there ({strangers[0]}); give an --output that is empty")
        return False
    before, now = _content(storage.read(storage.join(url, "config.json"))), _content(files["config.json"])
    if changes := differences(before, now):
        name, old, new = changes[0]
        raise UserError(f"{url}: another bundle is there, {name} is {old} and would be {new}; give another --output")
    return all(there.get(name) == len(data) for name, data in files.items() if name.endswith(".safetensors"))


def _content(config: bytes) -> Mapping[str, Any]:
    try:
        return {key: value for key, value in json.loads(config).items() if key != "provenance"}
    except (ValueError, AttributeError):  # no config.json of a bundle
        return {}
