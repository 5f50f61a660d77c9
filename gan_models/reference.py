"""Conversion of checkpoints of the published implementation (github.com/junyanz/pytorch-CycleGAN-and-pix2pix).

Its `.pth` files are a bare state_dict: only names and shapes reveal the network. Our modules have the same names, so
most files need no renaming. The quirks of older versions and of forks are corrected, and each change is noted. No
tensor is dropped silently, and a file that does not fit exactly is refused.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gan_models.config import DiscriminatorConfig, GeneratorConfig, Norm
from gan_models.weights import expected_state, misfits

NetworkState = Mapping[str, Tensor]
Config = GeneratorConfig | DiscriminatorConfig

_WRAPPERS = ("module.", "_orig_mod.")  # of data parallelism and of torch.compile
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_CONV_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.")
_FORK_BLOCK = re.compile(r"(model\.\d+)\.block\.(?=\d+\.)")
_MOST_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """State_dict that fits the network of `config` exactly."""

    config: Config
    """Architecture. A U-Net's dropout leaves no trace in the names and is off here: it matters only in training."""

    state: NetworkState
    """Under our names, in float32, sharing no memory with what was read."""

    notes: tuple[str, ...]
    """Changes and their reasons: tensors that were dropped, renamed, added or converted."""


def read_checkpoint(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file, in the old or new format, on the CPU. Runs no code that the file may hold.

    Raises ValueError of one line where the file is damaged, or holds anything but a flat mapping of names to tensors,
    which may be under the single key `state_dict`.
    """
    loaded = _unpickled(data)
    if isinstance(loaded, Mapping) and list(loaded) == ["state_dict"]:
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__} instead of a state_dict (a mapping of names to tensors)")
    others = [f"{name!r} is a {type(value).__name__}" for name, value in loaded.items() if not _is_plain(name, value)]
    if others:
        raise ValueError(f"it holds something other than a flat state_dict: {_some(others)}; save the state_dict alone")
    if not loaded:
        raise ValueError("it holds no tensors")
    return dict(loaded)


def recognise(state: NetworkState) -> Recognised:
    """Return the network that the reference implementation saved as `state`, from names and shapes alone.

    Supported are ResNets of any number of blocks, U-Nets of any depth, PatchGANs of any number of layers, and
    PixelGANs, each of any width and channels, with batch, instance, affine instance or no norm. Raises ValueError of
    one line that says what was recognised and lists the tensors that are missing, unexpected or of another shape.
    """
    notes: list[str] = []
    state = _with_our_names(state, notes)
    bare = _architecture(state)
    config = replace(bare, **_norm(bare, state))
    state = _with_our_statistics(config, state, notes)
    if faults := misfits(expected_state(config), state):
        raise ValueError(f"recognised {describe(config)}, but not every tensor fits: {faults}")
    return Recognised(config=config, state=_converted(config, state, notes), notes=tuple(notes))


def describe(config: Config) -> str:
    """Describe the architecture: `a ResNet generator with 9 blocks, width 64, 3 to 3 channels, instance norm`."""
    norm = "no norm" if config.norm == "none" else f"{'affine ' if config.affine else ''}{config.norm} norm"
    if isinstance(config, GeneratorConfig):
        size = f"{config.depth} halvings" if config.kind == "unet" else _several(config.depth, "block")
        title = f"a {'U-Net' if config.kind == 'unet' else 'ResNet'} generator with {size}"
        channels = f"{config.in_channels} to {config.out_channels} channels"
        return f"{title}, width {config.width}, {channels}, {norm}" + (", dropout" if config.dropout else "")
    sees = f"width {config.width}, {_several(config.in_channels, 'channel')}, {norm}"
    if config.kind == "pixel":
        return f"a PixelGAN discriminator with {sees}"
    return f"a PatchGAN discriminator with {_several(config.layers, 'layer')}, {sees}"


def _unpickled(data: bytes) -> Any:
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if harmed := archive.testzip():  # torch itself ignores the checksums
                    raise zipfile.BadZipFile(f"the checksum of {harmed} is wrong")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols that it then refuses
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"something other than tensors ({named[1]})" if named else "something other than tensors, or is damaged"
        raise ValueError(f"it holds {what}; nothing of it was run") from error
    except Exception as error:  # torch's reader passes on any error that a damaged file causes
        reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise ValueError(f"it is no checkpoint of torch, or is truncated or damaged ({reason})") from error


def _is_plain(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _with_our_names(state: NetworkState, notes: list[str]) -> NetworkState:
    for wrapper in _WRAPPERS * 2:  # either may be inside the other
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
            notes.append(f"took the prefix {wrapper} off every name")
    renamed = {_FORK_BLOCK.sub(r"\1.conv_block.", name): tensor for name, tensor in state.items()}
    # Where both spellings occur, the names stay, so that misfits are listed.
    if renamed.keys() != state.keys() and not any(_CONV_BLOCK.match(name) for name in state):
        notes.append("renamed the residual blocks' layers from block to conv_block")
        return renamed
    return state


def _architecture(state: NetworkState) -> Config:
    """All of the configuration but the norm, from the first convolution, the last one and the names between them."""
    blocks = {match[1] for name in state if (match := _CONV_BLOCK.match(name))}
    if blocks:
        return _resnet(state, blocks=len(blocks))
    if any(name.startswith("model.model.") for name in state):
        return _unet(state)
    if any(name.startswith("net.") for name in state):
        width, channels = _convolution(state, "net.0", "a PixelGAN discriminator")
        return DiscriminatorConfig(kind="pixel", in_channels=channels, width=width)
    if any(name.startswith("model.0.") for name in state):
        width, channels = _convolution(state, "model.0", "a PatchGAN discriminator")
        return DiscriminatorConfig(kind="patch", in_channels=channels, width=width, layers=_patch_layers(state))
    raise ValueError(f"it is no network of the reference implementation: its tensors are {_some(list(state))}")


def _resnet(state: NetworkState, *, blocks: int) -> GeneratorConfig:
    what = f"a ResNet generator with {_several(blocks, 'block')}"
    width, source = _convolution(state, "model.1", what)
    target, _ = _convolution(state, f"model.{blocks + 17}", what)
    # With dropout in the block, the second convolution has the index that the second norm has without it.
    dropout = any(name.endswith("conv_block.6.weight") and tensor.ndim == 4 for name, tensor in state.items())
    return GeneratorConfig(
        kind="resnet", in_channels=source, out_channels=target, width=width, depth=blocks, dropout=dropout
    )


def _unet(state: NetworkState) -> GeneratorConfig:
    nested = [re.match(r"model\.model\.1\.model((?:\.3\.model)*)\.", name) for name in state]
    depth = max((2 + match[1].count(".3.model") for match in nested if match), default=2)
    depth = max(2, min(depth, len(state)))  # one absurd name must not build an absurd network
    width, source = _convolution(state, "model.model.0", f"a U-Net generator with {depth} halvings")
    _, target = _convolution(state, "model.model.3", f"a U-Net generator with {depth} halvings")
    return GeneratorConfig(kind="unet", in_channels=source, out_channels=target, width=width, depth=depth)


def _patch_layers(state: NetworkState) -> int:
    """Inner convolutions stand at 2, 5, 8, …, the last one of all three further."""
    matches = (re.fullmatch(r"model\.(\d+)\.(?:weight|bias)", name) for name in state)
    last = max(int(match[1]) for match in matches if match)
    return max(1, min((last - 2) // 3, len(state)))  # the same holds here


def _convolution(state: NetworkState, name: str, what: str) -> tuple[int, int]:
    """The first two sizes of its weight: [out, in, …] of a convolution, [in, out, …] of a transposed one."""
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != 4 or not weight.numel():
        found = "is missing" if weight is None else f"is {list(weight.shape)} instead of a convolution's"
        raise ValueError(f"recognised {what} by its names, but {name}.weight {found}")
    return weight.shape[0], weight.shape[1]


def _norm(bare: Config, state: NetworkState) -> dict[str, Any]:
    """The norm, as fields of a configuration.

    Inner convolutions have a bias under instance norm only. So the biases tell affine instance norm from batch norm,
    even where an old file tracked running statistics; a network with scales but without those biases has a batch norm.
    The majority of each kind decides, so that a missing or unexpected tensor is listed as such.
    """
    none, plain = expected_state(_under(bare, "none")), expected_state(_under(bare, "instance"))
    biases = {name for name in plain.keys() - none.keys() if f"{name.removesuffix('bias')}weight" in state}
    biased = bool(biases) and _most(biases, state)
    scaled = _most(expected_state(_under(bare, "instance", affine=True)).keys() - plain.keys(), state)
    if biased:
        return {"norm": "instance", "affine": scaled}
    return {"norm": "batch" if scaled else "none", "affine": False}


def _with_our_statistics(config: Config, state: NetworkState, notes: list[str]) -> NetworkState:
    """Without an instance norm's running statistics, and with the counters that an old batch norm lacks."""
    of_norms = expected_state(_under(config, "batch"))
    tracked = {name: of_norms[name] for name in of_norms if name.endswith(_STATISTICS)}
    counters = {name for name in tracked if name.endswith("num_batches_tracked")}
    if config.norm == "instance":
        # With the wrong shape they are something else, and will be listed as unexpected.
        dropped = [name for name in tracked if name in state and state[name].shape == tracked[name].shape]
        norms = len({name.rpartition(".")[0] for name in dropped})
        if dropped:
            notes.append(f"dropped the running statistics of {_several(norms, 'instance norm')}, which uses none")
        return {name: tensor for name, tensor in state.items() if name not in dropped}
    if config.norm == "batch" and not counters & state.keys():
        notes.append(f"set num_batches_tracked, which this file lacks, to 0 in {_several(len(counters), 'batch norm')}")
        return {**state, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}
    return state


def _converted(config: Config, state: NetworkState, notes: list[str]) -> NetworkState:
    """In the order, the types and the plain memory layout of our network; no integer becomes a weight, nor back."""
    changes: Counter[str] = Counter()
    converted = {}
    for name, like in expected_state(config).items():
        tensor, types = state[name], f"{_type(state[name])} to {_type(like)}"
        if tensor.is_floating_point() != like.is_floating_point() or tensor.is_complex():
            raise ValueError(f"recognised {describe(config)}, but {name} is {_type(tensor)} instead of {_type(like)}")
        changes[types] += tensor.dtype != like.dtype
        converted[name] = tensor.detach().to(like.dtype).clone(memory_format=torch.contiguous_format)
    notes += [f"converted {_several(count, 'tensor')} from {types}" for types, count in changes.items() if count]
    return converted


def _under(config: Config, norm: Norm, *, affine: bool = False) -> Config:
    return replace(config, norm=norm, affine=affine)


def _most(names: set[str], state: NetworkState) -> bool:
    return 2 * len(names & state.keys()) >= len(names)


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _several(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")


def _some(items: list[str]) -> str:
    return ", ".join(items[:_MOST_NAMES]) + (f" and {len(items) - _MOST_NAMES} more" if items[_MOST_NAMES:] else "")
