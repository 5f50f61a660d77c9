"""Generators compiled ahead of time for images of one size, and the packages of compiled code that a machine keeps.

A package (AOTInductor) holds code alone. The weights are arguments, so that one package serves every model of its
architecture, and equal residual blocks share theirs. It is native code: packages are read from this user's own cache
only, and never from a store that others write.

On a GPU the network is compiled as a whole, by torch.compile, which keeps its kernels in the same cache: torch 2.11
ended with a segmentation fault where it loaded a package for an H200. From there it takes some seconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gan_models
from gan_models import regions
from pipeline import storage
from pipeline.cluster import hardware
from pipeline.errors import one_line
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.cache import cache_folder

log = logging.getLogger("transdomain")

Network = Callable[[Tensor], Tensor]

_OPTIONS = {"aot_inductor.package": True, "compile_threads": 1}


class CannotCompileError(Exception):
    """Failure of the compiler, or its absence."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Measurement of a package beside the same network run eagerly."""

    eager_s: float
    """Seconds that so many images take."""
    compiled_s: float
    """Seconds that as many take."""
    compile_s: float
    """Seconds that the compiler took."""

    @property
    def ratio(self) -> float:
        """Return how many times faster the compiled network is."""
        return self.eager_s / self.compiled_s


@dataclass(frozen=True)
class Package:
    """Place in the cache for the code of one network at one shape, on machines like this one."""

    network: nn.Module
    """Network as it runs eagerly: on its device, in its precision, with its trunk."""
    shape: tuple[int, int, int, int]
    """Shape of the input, [N, C, H, W]."""
    url: str
    threads: int | None
    """Threads that the code is for; None on a GPU."""

    @classmethod
    def of(cls, network: nn.Module, shape: tuple[int, int, int, int], arithmetic: Arithmetic) -> Package:
        """Return the package for `network`; two networks of one architecture and arithmetic share it."""
        what = {
            "code": _code(),
            "torch": torch.__version__,
            "device": hardware.describe(arithmetic.device),
            "threads": arithmetic.threads,
            "shape": list(shape),
            "regions": [
                _signature(region) for region in ([network] if arithmetic.device == "cuda" else regions(network))
            ],
        }
        if arithmetic.thread_pixels is not None:  # eager code, with which it is compared, has another speed then
            what["thread_pixels"] = arithmetic.thread_pixels
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        return cls(network, shape, storage.join(cache_folder("compiled"), f"{name}.pt2"), arithmetic.threads)

    @property
    def gain(self) -> Gain | None:
        """Return what was measured when it was compiled; None where nobody has."""
        found = storage.read_if_there(self._beside)
        return None if found is None else Gain(**json.loads(found))

    def keep(self, gain: Gain) -> None:
        """Keep a measurement beside the package."""
        storage.replace(self._beside, json.dumps(asdict(gain)).encode())

    @property
    def _beside(self) -> str:
        return f"{self.url.removesuffix('.pt2')}.json"

    def load(self) -> Network:
        """Return the compiled network; compile it first where the cache does not have it, or has it damaged.

        Raises CannotCompileError where that fails.
        """
        if self._device == "cuda":
            return self._traced()
        if storage.stat_file(self.url) is not None:
            try:
                return self._loaded()
            except Exception as error:  # whatever is wrong with it, it can be made again
                log.info("%s is damaged (%s) and is made again", storage.escaped(self.url), one_line(error))
                storage.delete(self.url)
        return self.compile()

    def compile(self) -> Network:
        """Compile the network, keep the package, and return the compiled network. Takes a minute, more or less.

        Raises CannotCompileError.
        """
        height, width = self.shape[2:]
        log.info("compiling the model for images of %d × %d, once on this machine", width, height)
        started = time.monotonic()
        try:
            # Another process may have made it meanwhile. Then that one counts: it is the same code.
            with hardware.torch_threads(self.threads):  # the compiler writes their number into the code
                storage.create(self.url, _compiled(regions(self.network), self._example()))
            network = self._loaded()
        except Exception as error:  # the compiler's faults have no common class
            raise CannotCompileError(f"cannot compile for images of {width} × {height}: {one_line(error)}") from error
        log.info("compiled in %.0f s, and kept in %s", time.monotonic() - started, storage.escaped(self.url))
        return network

    def _traced(self) -> Network:
        """Return the network that torch.compile makes, called once. Takes 10 s, or some seconds with its cache."""
        height, width = self.shape[2:]
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", storage.join(cache_folder("compiled"), "inductor"))
        # Otherwise a further shape would silently run eagerly.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        started = time.monotonic()
        # Without the choice of the fastest among equal kernels, which could sum in another order on another day.
        network = torch.compile(self.network, dynamic=False, options={"triton.autotune_pointwise": False})
        try:
            with torch.inference_mode():
                network(_channels_last(self._example()))
            torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler's faults have no common class
            raise CannotCompileError(f"cannot compile for images of {width} × {height}: {one_line(error)}") from error
        log.info("compiled the model for images of %d × %d in %.0f s", width, height, time.monotonic() - started)
        return lambda x_NCHW: network(_channels_last(x_NCHW))

    def _loaded(self) -> Network:
        return _Compiled(regions(self.network), _runners(self.url))

    @property
    def _device(self) -> str:
        return next(self.network.parameters()).device.type

    def _example(self) -> Tensor:
        weight = next(self.network.parameters())
        return torch.zeros(self.shape, dtype=weight.dtype, device=weight.device)


def _code() -> str:
    """Return the sha256 of the networks' source, so that a change of it finds no package made before."""
    digest = hashlib.sha256()
    for path in sorted(Path(gan_models.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _tensors(region: nn.Module) -> dict[str, Tensor]:
    return {**dict(region.named_parameters()), **dict(region.named_buffers())}


def _signature(region: nn.Module) -> str:
    """Return a text that regions with equal code have in common."""
    tensors = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in _tensors(region).items()]
    return "\n".join([str(region), *tensors])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class _WithWeights(nn.Module):
    """Region as a function of an image and its weights."""

    def __init__(self, region: nn.Module) -> None:
        super().__init__()
        self._region = (region,)  # no submodule, whose weights would become a part of the code

    def forward(self, x_NCHW: Tensor, *weights: Tensor) -> Tensor:
        (region,) = self._region
        named = dict(zip(_tensors(region), weights, strict=True))
        return torch.func.functional_call(region, named, (x_NCHW,))


def _arguments(region: nn.Module) -> list[Tensor]:
    return [_channels_last(tensor.detach()) for tensor in _tensors(region).values()]


def _compiled(parts: Sequence[nn.Module], x_NCHW: Tensor) -> bytes:
    """Return a package with a program for each kind of region, named by their order."""
    from torch._inductor.package import package_aoti
    from torch._inductor.utils import fresh_cache

    programs: dict[str, Any] = {}
    names = dict[str, str]()
    with tempfile.TemporaryDirectory(prefix="compile-") as scratch, fresh_cache(dir=scratch), torch.no_grad():
        for region in parts:
            x_NCHW = _channels_last(x_NCHW)
            if (signature := _signature(region)) not in names:
                names[signature] = name = f"region{len(names)}"
                arguments = (x_NCHW, *_arguments(region))
                exported = torch.export.export(_WithWeights(region), arguments, strict=False)
                programs[name] = torch._inductor.aot_compile(exported.module(), arguments, options=_OPTIONS)
            x_NCHW = region(x_NCHW)
        path = os.path.join(scratch, "package.pt2")
        package_aoti(path, programs)
        return Path(path).read_bytes()


def _runners(url: str) -> Mapping[str, Callable[..., Tensor]]:
    from torch.export.pt2_archive._package import load_pt2

    return load_pt2(storage.filesystem(url)[1], run_single_threaded=True).aoti_runners


class _Compiled:
    """Network whose regions run compiled, each with its weights."""

    def __init__(self, parts: Sequence[nn.Module], runners: Mapping[str, Callable[..., Tensor]]) -> None:
        self._steps = list(_steps(parts, runners))

    def __call__(self, x_NCHW: Tensor) -> Tensor:
        for run, weights in self._steps:
            x_NCHW = run(_channels_last(x_NCHW), *weights)
        return x_NCHW


def _steps(
    parts: Sequence[nn.Module], runners: Mapping[str, Callable[..., Tensor]]
) -> Iterator[tuple[Callable[..., Tensor], list[Tensor]]]:
    names = dict[str, str]()
    for region in parts:
        name = names.setdefault(_signature(region), f"region{len(names)}")
        yield runners[name], _arguments(region)
