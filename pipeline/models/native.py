"""Trunk of a ResNet generator with Winograd's filtering in C, for CPUs in fp32, at any image size.

The products are torch's. What lies between two of them is one pass over memory here: the norm and the ReLU of the
convolution before, the mirrored border, and the values at the points; or the outputs and the sums for the norm after.
In separate operations of torch these passes take as long as the products.

The code is compiled once on a machine, in a second or two, and kept beside the packages of `compiled`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_models import with_winograd_trunk
from gan_models.norms import affine
from gan_models.resnet import ResNetBlock, ResNetGenerator
from gan_models.winograd import FixedWinogradConv2d
from pipeline import storage
from pipeline.cluster import hardware
from pipeline.errors import one_line
from pipeline.models.cache import cache_folder
from pipeline.models.compiled import CannotCompileError
from pipeline.models.ends import few_outputs, rows_conv

log = logging.getLogger("transdomain")

_SOURCE = Path(__file__).with_name("winograd.c")
_COMPILERS = ("cc", "gcc", "clang")
# No contraction: a compiler that fuses other products and sums than the next one would round other pixels.
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_LINE = 16
"""Channels that the code takes at once."""
_MOST_TILES = 256
"""Tiles at once, which limits the memory to 36/16 of two such activations."""
_TILE, _POINTS = 4, 36


def is_available() -> bool:
    """Return True where this machine can compile the code, or has compiled it; the log says why it cannot."""
    try:
        _library()
    except CannotCompileError as error:
        log.info("%s; it computes without", error)
        return False
    return True


def with_native_trunk(generator: nn.Module) -> nn.Module:
    """Return a form of `generator` whose residual blocks run in C; for inference in fp32 on a CPU.

    Its last convolution takes another way to the same sums (`RowsConv2d`). As with `with_winograd_trunk`, it shares all
    weights but those of the convolutions that are replaced. A generator without residual blocks, or with channels that
    the code does not take (`takes`), comes back as that function returns it. Raises CannotCompileError.
    """
    generator = with_winograd_trunk(generator)
    if isinstance(generator, ResNetGenerator):
        library = _library()
        blocks = [layer for layer in generator.model if isinstance(layer, ResNetBlock)]
        if blocks and all(takes(conv.filters.shape[1]) for block in blocks for conv, _ in _convolutions(block)):
            first = next(i for i, layer in enumerate(generator.model) if layer is blocks[0])
            layers = [
                rows_conv(layer) if few_outputs(layer) else layer
                for layer in generator.model
                if not isinstance(layer, ResNetBlock)
            ]
            generator.model = nn.Sequential(*layers[:first], NativeTrunk(blocks, library), *layers[first:])
    return generator


def takes(channels: int) -> bool:
    """Return True where residual blocks of so many channels can run in C."""
    return channels % _LINE == 0


class NativeTrunk(nn.Module):
    """Residual blocks one after the other: [N, C, H, W] to the same, in fp32."""

    def __init__(self, blocks: list[ResNetBlock], library: ctypes.CDLL) -> None:
        """Take blocks whose convolutions are FixedWinogradConv2d."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self._layers = [_convolutions(block) for block in blocks]
        self._library = library

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if x_NCHW.dtype != torch.float32 or x_NCHW.device.type != "cpu":
            raise TypeError(f"the trunk in C takes fp32 on a CPU, not {x_NCHW.dtype} on {x_NCHW.device}")
        images = x_NCHW.permute(0, 2, 3, 1).contiguous()
        # One by one, so that no pixel depends on an image's place in the batch.
        return torch.stack([self._translate(x_HWC) for x_HWC in images]).permute(0, 3, 1, 2).contiguous()

    def _translate(self, x_HWC: Tensor) -> Tensor:
        height, width, channels = x_HWC.shape
        for (first, inner), (second, outer) in self._layers:
            y_HWC, sums = self._convolve(x_HWC, None, first)
            y_HWC, sums = self._convolve(y_HWC, _affine(inner, sums, height * width), second)
            scale, shift = _affine(outer, sums, height * width)
            self._library.transdomain_add(
                x_HWC.data_ptr(), y_HWC.data_ptr(), scale.data_ptr(), shift.data_ptr(),
                height * width, channels, torch.get_num_threads(),
            )  # fmt: skip
            x_HWC = y_HWC
        return x_HWC

    def _convolve(
        self, x_HWC: Tensor, affine: tuple[Tensor, Tensor] | None, conv: FixedWinogradConv2d
    ) -> tuple[Tensor, Tensor]:
        """Return the convolution of relu(x * scale + shift), or of x, and its sums by channel, [2, out]."""
        (height, width, channels), out = x_HWC.shape, conv.filters.shape[2]
        down, across = -(-height // _TILE), -(-width // _TILE)
        y_HWC, sums = x_HWC.new_empty(height, width, out), x_HWC.new_empty(down, 2, out, dtype=torch.float64)
        scale, shift = (each.data_ptr() for each in affine) if affine else (None, None)
        bias = None if conv.bias is None else conv.bias.data_ptr()
        threads, step = torch.get_num_threads(), max(1, _MOST_TILES // across) * across
        for first in range(0, down * across, step):
            last = min(first + step, down * across)
            points = x_HWC.new_empty(_POINTS, last - first, channels)
            self._library.transdomain_to_points(
                x_HWC.data_ptr(), scale, shift, 0.0, height, width, channels, first, last, points.data_ptr(), threads
            )
            products = torch.bmm(points, conv.filters)
            self._library.transdomain_to_outputs(
                products.data_ptr(), bias, height, width, out, first, last, y_HWC.data_ptr(), sums.data_ptr(), threads
            )
        return y_HWC, sums.sum(0)


def _convolutions(block: ResNetBlock) -> list[tuple[FixedWinogradConv2d, nn.Module]]:
    """Return the convolutions of a block, each with the norm that follows it."""
    layers = list(block.conv_block)
    return [(conv, layers[i + 1]) for i, conv in enumerate(layers) if isinstance(conv, FixedWinogradConv2d)]


def _affine(norm: nn.Module, sums: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Return the scale and shift, [C], that `norm` is for an image with these sums of values and of squares, [2, C]."""
    if isinstance(norm, nn.GroupNorm):
        return affine(norm, *(sums / pixels))
    scale, shift = sums.new_ones(sums.shape[1]), sums.new_zeros(sums.shape[1])
    if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
        deviation = (norm.running_var.double() + norm.eps).sqrt()
        scale, shift = 1 / deviation, -norm.running_mean.double() / deviation
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    elif not isinstance(norm, nn.Identity):
        raise TypeError(f"{norm} is no norm of a residual block")
    return scale.float(), shift.float()


@functools.cache
def _library() -> ctypes.CDLL:
    """Return the compiled code, from the cache where that has it. Raises CannotCompileError."""
    machine = hardware.describe("cpu")  # the code is for its instructions
    what = (_SOURCE.read_text(), " ".join(_FLAGS), machine)
    url = storage.join(cache_folder("compiled"), f"winograd-{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}.so")
    if storage.stat_file(url) is None:
        storage.create(url, _compile())
    try:
        library = ctypes.CDLL(storage.filesystem(url)[1])
    except OSError as error:
        storage.delete(url)
        raise CannotCompileError(f"what was compiled cannot be loaded: {one_line(error)}") from error
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library


_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = {
    "transdomain_to_points": [*[_POINTER] * 3, ctypes.c_float, *[_SIZE] * 5, _POINTER, _INT],
    "transdomain_to_outputs": [*[_POINTER] * 2, *[_SIZE] * 5, *[_POINTER] * 2, _INT],
    "transdomain_add": [*[_POINTER] * 4, *[_SIZE] * 2, _INT],
}


def _compile() -> bytes:
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise CannotCompileError(f"there is no C compiler here ({', '.join(_COMPILERS)})")
    with tempfile.TemporaryDirectory(prefix="compile-") as scratch:
        made = Path(scratch) / "winograd.so"
        ended = subprocess.run(
            [compiler, *_FLAGS, str(_SOURCE), "-o", str(made)], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise CannotCompileError(f"{compiler} failed: {' '.join(ended.stderr.split())[:300]}")
        return made.read_bytes()
