"""Export of a trained generator for other programs: as an ONNX model, or as a program of torch.export.

Both are the generator in translation mode: each image's own statistics, no dropout, independent of the rest of the
batch.

    image        [batch, in, height, width] fp32 in [-1, 1]
    translation  [batch, out, height, width] fp32 in [-1, 1]

Batch size, height and width are free. Height and width are multiples of `size_multiple`, and at least `least_size`: one
multiple for a U-Net, whose innermost image may be a single pixel (no norm sees it), two for a ResNet, whose residual
blocks mirror one pixel at each edge and so need two. Both files carry what `_metadata` lists. The same weights give the
same bytes with the same versions of torch and onnxscript.

ONNX needs the packages onnx and onnxscript, and its check onnxruntime; nothing else here does.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from gan_models.config import GeneratorConfig
from gan_models.translation import translation_mode

OPSET = 18  # the oldest that torch.onnx writes without conversion, so most runtimes read it
METADATA_FILE = "metadata.json"  # the extra file in a .pt2

_MOST_ONNX_BYTES = 2**31 - 2**24  # a protobuf message ends at 2 GiB, and the graph takes some of it
_LEAST_SIDE = 64  # pixels, of the images that the checks translate


def export_onnx(generator: nn.Module, config: GeneratorConfig, *, notes: Mapping[str, str] | None = None) -> bytes:
    """Export `generator` as one ONNX model (opset 18), with its weights inside and `notes` added to its metadata.

    ONNX cannot require that a size is a multiple: otherwise, a ResNet gives an image of another size, and a U-Net
    fails. Raises ImportError of one line where a package is missing, ValueError where the weights exceed what one file
    holds.
    """
    require_onnx()
    size_bytes = sum(tensor.numel() * 4 for tensor in generator.state_dict().values())
    if size_bytes > _MOST_ONNX_BYTES:
        raise ValueError(
            f"the weights take {size_bytes / 1e9:.1f} GB, and an ONNX file holds 2 GB; export a .pt2 instead"
        )
    program = export_program(generator, config)
    with _quiet():
        exported = torch.onnx.export(
            program,
            (),
            input_names=["image"],
            output_names=["translation"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    # The tracer's remaining names for the sizes would contradict these; every runtime infers shapes itself.
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for key, text in _metadata(generator, config, notes).items():
        model.metadata_props.add(key=key, value=text)
    return model.SerializeToString()


def export_program(generator: nn.Module, config: GeneratorConfig) -> ExportedProgram:
    """Export `generator` as a program of torch.export, on the CPU, in fp32, without gradients; `.module()` is callable.

    The program refuses a height or a width that the generator does not take. An input of another memory format is
    computed on NCHW memory, for the reason given in `norms.GroupNorm`.
    """
    multiple, least = config.size_multiple, config.least_size // config.size_multiple
    sizes = {0: Dim("batch"), 2: multiple * Dim("rows", min=least), 3: multiple * Dim("columns", min=least)}
    # The sizes differ and are not 1, so that none is taken for another, or for a constant.
    example = torch.zeros(2, config.in_channels, 2 * multiple, 3 * multiple)
    program = torch.export.export(_Translator(generator), (example,), dynamic_shapes={"image": sizes})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds paths of this machine
    ranges = sorted(program.range_constraints.items(), key=str)  # they come from a set, in no fixed order
    program.range_constraints.clear()
    program.range_constraints.update(ranges)
    # With an example, `.module()` would check the tracer's guesses, for example that no size is a single multiple: a
    # U-Net 256 would refuse 256². Without one, it checks what `sizes` says.
    program.example_inputs = None
    return program


def export_pt2(generator: nn.Module, config: GeneratorConfig, *, notes: Mapping[str, str] | None = None) -> bytes:
    """Export `export_program` as a file for `torch.export.load`, with `notes` added to its extra file metadata.json."""
    file = io.BytesIO()
    metadata = json.dumps(_metadata(generator, config, notes), indent=2)
    torch.export.save(export_program(generator, config), file, extra_files={METADATA_FILE: metadata})
    return file.getvalue()


def check_onnx(model: bytes, generator: nn.Module, config: GeneratorConfig) -> float:
    """Return the largest absolute difference between `model` in onnxruntime and `generator` in torch, both in [-1, 1].

    The check runs on the CPU over random images of several sizes, square and not, alone and in a batch. The result is
    NaN where either output has one. Raises ImportError of one line where onnxruntime is missing.
    """
    runtime = _package("onnxruntime")
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return _largest_difference(
        lambda image_NCHW: torch.from_numpy(session.run(["translation"], {"image": image_NCHW.numpy()})[0]),
        generator,
        config,
    )


def check_pt2(data: bytes, generator: nn.Module, config: GeneratorConfig) -> float:
    """Measure what `check_onnx` measures, for a file made by `export_pt2`."""
    return _largest_difference(torch.export.load(io.BytesIO(data)).module(), generator, config)


def require_onnx() -> None:
    """Raise ImportError of one line where a package that ONNX needs is missing."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _package(name)


class _Translator(nn.Module):
    """Generator with its own copy of the weights: [N, in, H, W] to [N, out, H, W]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        own = copy.deepcopy(translation_mode(generator)).cpu().float().requires_grad_(False)
        self.generator = own.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        # A traced GroupNorm no longer converts to NCHW memory; everything computed from an NCHW image has it.
        return self.generator(image.clone(memory_format=torch.contiguous_format))


def _metadata(generator: nn.Module, config: GeneratorConfig, notes: Mapping[str, str] | None) -> dict[str, str]:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    return {
        "architecture": json.dumps(config.record()),
        "value_range": "[-1.0, 1.0]",
        "size_multiple": str(config.size_multiple),
        "least_size": str(config.least_size),
        # The same fingerprint as in a bundle's config.json for these weights.
        "weights_sha256": hashlib.sha256(safetensors.save(state)).hexdigest(),
        **(notes or {}),
    }


def _largest_difference(run: Callable[[Tensor], Tensor], generator: nn.Module, config: GeneratorConfig) -> float:
    translator = _Translator(generator)
    differences = []
    with torch.no_grad():
        for seed, (batch, height, width) in enumerate(_check_shapes(config)):
            image_NCHW = _picture(batch, config.in_channels, height, width, seed)
            differences.append((run(image_NCHW) - translator(image_NCHW)).abs().max())
    return float(torch.stack(differences).max())


def _check_shapes(config: GeneratorConfig) -> tuple[tuple[int, int, int], ...]:
    """Return batch, height and width of the images that the checks translate.

    They are not far below the usual sizes: there, a norm has so few values that rounding alone makes a difference of
    1e-4.
    """
    multiple = config.size_multiple
    side = -(-_LEAST_SIDE // multiple) * multiple
    return (1, side, side), (3, side, side + multiple), (1, side + multiple, side)


def _picture(batch: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    """Return smooth random images with a little noise, in [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, channels, 5, 5, generator=rng) * 2 - 1
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=rng)).clamp(-1, 1)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"an export to ONNX needs the package {name} ({error}): pip install 'transdomain[onnx]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages about itself and about packages that are not needed; errors are still raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
