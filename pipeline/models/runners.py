"""Programs (`pipeline.models.programs`) as networks: from [N, C, H, W] in [-1, 1] to the same."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import one_line
from pipeline.models.programs import Program, ProgramDescription, read_program

Run = Callable[[Tensor], Tensor]


class Runner(nn.Module):
    """Program, loaded for a device by `on`. What runs is no part of this module: nothing moves, casts or copies it."""

    def __init__(self, program: Program, data: bytes) -> None:
        """Take a program, and its file as it was described; nothing is loaded yet."""
        super().__init__()
        self.program, self._data = program, data
        self._runs = dict[str, Run]()
        self._device = ""

    def on(self, device: str) -> Runner:
        """Return the program for a device, loaded once.

        Raises ValueError where it cannot be loaded, and ImportError where a package is missing.
        """
        if device not in self._runs:
            self._runs[device] = _LOAD[self.program.format](self.program, self._data, device)
        there = Runner(self.program, self._data)
        there._runs, there._device = self._runs, device
        return there

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the translations. Raises RuntimeError where their shape is another than images of that size have."""
        # From 0 to 255, with half a step more, since the way back to pixels truncates.
        low, high = (-0.5, 254.5) if self.program.dtype == "uint8" else self.program.value_range
        y_NCHW = (self.raw(x_NCHW).float() - low) / (high - low) * 2 - 1
        expected = (x_NCHW.shape[0], self.program.out_channels, *x_NCHW.shape[2:])
        if y_NCHW.shape != expected:
            raise RuntimeError(f"{self.program.source} gave {list(y_NCHW.shape)} for {list(x_NCHW.shape)}")
        return y_NCHW

    def raw(self, x_NCHW: Tensor) -> Tensor:
        """Return what the program gives for images in [-1, 1], as it gives it."""
        low, high = self.program.value_range
        takes = (x_NCHW + 1) / 2
        if self.program.dtype == "uint8":
            return self._runs[self._device]((takes * 255).round().to(torch.uint8))
        return self._runs[self._device](takes * (high - low) + low)


@dataclass(frozen=True)
class LoadedProgram:
    """A program in place of a bundle."""

    description: ProgramDescription
    data: bytes
    """Its file, or the source of its module."""

    @property
    def sha256(self) -> str:
        return self.description.sha256

    @property
    def directions(self) -> tuple[str, ...]:
        return self.description.directions

    @property
    def generator_configs(self) -> Mapping[str, Program]:
        return self.description.generator_configs

    def generator(self, direction: str) -> nn.Module:
        """Return the program, for no device yet."""
        return Runner(self.generator_configs[direction], self.data)


def open_program(url: str, direction: str | None) -> LoadedProgram:
    """Return the program at `url`. Raises ValueError like `describe_program`, and for another direction than its."""
    found, data = read_program(url)
    if direction not in (None, found.direction):
        raise ValueError(f"{url}: is a program of direction {found.direction}, and not {direction}")
    return LoadedProgram(found, data)


def check_independent(network: nn.Module, program: Program, batch: int, size: tuple[int, int], device: str) -> None:
    """Raise ValueError where an image's translation depends, in any bit, on the others in its batch."""
    noise, shape = torch.Generator().manual_seed(0), (batch, program.in_channels, *size)
    first, other = (torch.rand(shape, generator=noise) * 2 - 1 for _ in range(2))
    other[0] = first[0]
    with torch.inference_mode():
        one, two = (network(each.to(device))[0] for each in (first, other))
    if not torch.equal(one, two):
        what = f"{program.source}: translations depend on the other images of a batch"
        if program.fixed_batch == batch:
            raise ValueError(f"{what}, and it takes {batch} at once; export it for one image, or any number of them")
        raise ValueError(f"{what}; leave out --batch, so that each image goes by itself")


def _load_pt2(program: Program, data: bytes, device: str) -> Run:
    exported = torch.export.load(io.BytesIO(data))
    if device != "cpu" or any(tensor.device.type != device for tensor in exported.state_dict.values()):
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    return exported.module()


def _load_onnx(program: Program, data: bytes, device: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CUDAExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    if missing := set(providers) - set(onnxruntime.get_available_providers()):
        raise ValueError(f"{program.source}: this onnxruntime lacks {', '.join(missing)}; use --device cpu")
    session = onnxruntime.InferenceSession(data, options, providers=providers)
    name = session.get_inputs()[0].name

    def run(x_NCHW: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x_NCHW.cpu().numpy()})[0]).to(x_NCHW.device)

    return run


def _load_callable(program: Program, data: bytes, device: str) -> Run:
    module, _, name = program.source.partition(":")
    factory: Any = getattr(importlib.import_module(module), name, None)
    if not callable(factory):
        raise ValueError(f"module {module} has no function {name}")
    run = factory(device)
    if not callable(run):
        raise ValueError(f"{program.source} returned {type(run).__name__}, and no function of a batch")

    def checked(x_NCHW: Tensor) -> Tensor:
        try:
            return torch.as_tensor(run(x_NCHW), device=x_NCHW.device)
        except ValueError as error:  # which would be taken for an image's own fault
            raise RuntimeError(f"{program.source}: {one_line(error)}") from error

    return checked


_LOAD: Mapping[str, Callable[[Program, bytes, str], Run]] = {
    "pt2": _load_pt2,
    "onnx": _load_onnx,
    "callable": _load_callable,
}
