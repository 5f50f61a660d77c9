"""Generators that come as programs: a .pt2 of torch.export, an ONNX model, or a Python callable, as they describe
themselves.

A file that `jobs.export` wrote says all that has to be known. For others, and for a callable, a small YAML file says
it, which is given in their place:

    program: model.onnx         # beside this file, or a URL; or PACKAGE.MODULE:FACTORY
    value_range: [0, 1]         # of inputs and outputs
    size_multiple: 32           # height and width are multiples of it
    least_size: 32              # smallest height and width; size_multiple where it is left out
    channels: [3, 3]            # taken and given, where the file does not say
    training_size: 256          # side for --size training and original
    direction: a_to_b           # or b_to_a: of which side of a paired store it takes the images
    dtype: float32              # of a callable's batches, or uint8
    version: "3"                # of a callable: change it whenever its results change

A factory is called with the device ("cpu" or "cuda"), and returns a function from a batch [N, C, H, W] to one of the
same height and width. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from gan_models.config import OPPOSITE
from gan_models.description import sha256_of
from pipeline import storage
from pipeline.errors import UserError, one_line
from pipeline.models.cache import read_weights

_ENDINGS = (".pt2", ".onnx", ".yaml", ".yml")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_METADATA = "metadata.json"
_ORDINARY_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is known of a program; in place of a `GeneratorConfig`."""

    source: str
    """URL of the file, or PACKAGE.MODULE:FACTORY."""
    format: Literal["pt2", "onnx", "callable"]
    in_channels: int = 3
    out_channels: int = 3
    value_range: tuple[float, float] = (-1.0, 1.0)
    size_multiple: int = 1
    least_size: int = 1
    fixed_size: tuple[int, int] | None = None
    """Height and width of all inputs, in pixels; None where they are free."""
    fixed_batch: int | None = None
    """Number of images that come at once; None where it is free."""
    dtype: Literal["float32", "uint8"] = "float32"
    """Type of the batches that it takes and gives; uint8 ones are from 0 to 255."""

    kind = "program"

    def flop(self, pixels: float) -> float:
        """Return infinity, since nobody knows: every program is worth a measurement."""
        return math.inf


@dataclass(frozen=True, kw_only=True)
class ProgramDescription:
    """A program in place of a bundle's `Description`."""

    place: str
    """Name of the program in messages."""
    program: Program
    direction: str
    """Direction that it translates."""
    size: int | None
    """Side, in pixels, of the square images that it was trained with, or takes alone; None where nobody said it."""
    sha256: str
    """Fingerprint of its file, or of its module's source, and of what is said about it."""

    @property
    def generator_configs(self) -> Mapping[str, Program]:
        return {self.direction: self.program}

    @property
    def directions(self) -> tuple[str, ...]:
        return (self.direction,)

    @property
    def training_size(self) -> int:
        """Side, in pixels, of images to measure it with, where nobody said more."""
        return self.size or _ORDINARY_SIZE

    def check(self, direction: str) -> None:
        """Do nothing: the file was read for its fingerprint."""


def is_program(url: str) -> bool:
    """Return True for the URL of a program or of its YAML file."""
    return url.endswith(_ENDINGS)


def check_is_file(bundle: str) -> None:
    """Raise UserError for a bare PACKAGE.MODULE:FACTORY, which says too little of itself."""
    if _FACTORY.fullmatch(bundle):
        raise UserError(
            f"{bundle}: write a YAML file with `program: {bundle}`, and its channels, value_range, size_multiple and "
            "version, and give that"
        )


def describe_program(url: str, *, gives_images: bool = True) -> ProgramDescription:
    """Return what a program's file and its YAML say of it. Raises ValueError like `read_program`."""
    return read_program(url, gives_images=gives_images)[0]


def read_program(url: str, *, gives_images: bool = True) -> tuple[ProgramDescription, bytes]:
    """Return what a program's file and its YAML say of it, and the file, or the source of its module.

    Unless it `gives_images`, it may give anything for an image. Raises ValueError of one line for what does not fit: a
    missing file or module, more than one input, a value that is not said anywhere.
    """
    said = _read_yaml(url) if url.endswith((".yaml", ".yml")) else {}
    source = _source(url, said)
    found, data = _Found(), b""
    if _FACTORY.fullmatch(source):
        data = _module_source(source.partition(":")[0])
        if not said.get("version"):
            raise ValueError(f"{url}: lacks `version`, which tells results of {source} from those of a changed one")
    else:
        data = _read(source)
        found = (_look_into_pt2 if source.endswith(".pt2") else _look_into_onnx)(data, source)
    if not gives_images:
        found = dataclasses.replace(found, gives=[None, 1, None, None])
    program, direction, size = _settled(url, source, found, said)
    # The place of a file is no part of what it is, but the name of a factory is.
    about = dataclasses.asdict(program) | {
        "source": sha256_of(data),
        "factory": source.partition(":")[2] if program.format == "callable" else "",
        "version": str(said.get("version", "")),
    }
    sha256 = sha256_of(json.dumps(about, sort_keys=True).encode())
    return ProgramDescription(place=url, program=program, direction=direction, size=size, sha256=sha256), data


@dataclass(kw_only=True)
class _Found:
    """What a file says of itself; None and empty where it does not."""

    takes: list[int | None] = dataclasses.field(default_factory=list)
    """Shape [N, C, H, W] of its input, None for each free number."""
    gives: list[int | None] = dataclasses.field(default_factory=list)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


_KEYS = {
    "program", "value_range", "size_multiple", "least_size", "channels", "training_size", "direction", "dtype",
    "version",
}  # fmt: skip


def _read_yaml(url: str) -> dict[str, Any]:
    try:
        said = yaml.safe_load(_read(url))
    except yaml.YAMLError as error:
        raise ValueError(f"{url}: no YAML: {one_line(error)}") from error
    if not isinstance(said, dict) or not isinstance(said.get("program"), str):
        raise ValueError(f"{url}: lacks `program`, a .pt2 or .onnx file, or PACKAGE.MODULE:FACTORY")
    if unknown := sorted(map(str, said.keys() - _KEYS)):
        raise ValueError(f"{url}: does not know {', '.join(unknown)}; the keys are {', '.join(sorted(_KEYS))}")
    return said


def _source(url: str, said: Mapping[str, Any]) -> str:
    if not said:
        return url
    program: str = said["program"]
    if _FACTORY.fullmatch(program) or "://" in program or program.startswith("/"):
        found = program
    else:
        found = f"{url.rpartition('/')[0]}/{program}"
    if not _FACTORY.fullmatch(found) and not found.endswith((".pt2", ".onnx")):
        raise ValueError(f"{url}: program is {program!r}; it must be a .pt2 or .onnx file, or PACKAGE.MODULE:FACTORY")
    return found


def _read(url: str) -> bytes:
    if storage.stat_file(url) is None:
        raise ValueError(f"{url}: no such file")
    return read_weights(url)


def _module_source(module: str) -> bytes:
    """Return the source of a module. Raises ValueError where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # it imports the packages above, which may raise anything
        raise ValueError(f"module {module} cannot be found: {one_line(error)}") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ValueError(f"module {module} cannot be found; it must be installed, or lie where Python starts")
    return storage.read(spec.origin)


def _look_into_pt2(data: bytes, source: str) -> _Found:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            graph = json.loads(archive.read(names["models/model.json"]))["graph_module"]
            extra = names.get(f"extra/{_METADATA}")
            metadata = dict(json.loads(archive.read(extra))) if extra else {}
        takes = [each["user_input"]["arg"] for each in graph["signature"]["input_specs"] if "user_input" in each]
        gives = [each["user_output"]["arg"] for each in graph["signature"]["output_specs"] if "user_output" in each]
        tensors = [
            graph["graph"]["tensor_values"][one["as_tensor"]["name"]]
            for one in (_only(takes, "input", source), _only(gives, "output", source))
        ]
        shapes = [[size.get("as_int") for size in tensor["sizes"]] for tensor in tensors]
        _check_floats([tensor["dtype"] for tensor in tensors], _FLOAT_OF_PT2, source)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{source}: no program of torch.export: {one_line(error)}") from error
    return _Found(takes=shapes[0], gives=shapes[1], metadata=metadata)


def _look_into_onnx(data: bytes, source: str) -> _Found:
    try:
        import onnx
    except ImportError as error:
        raise ValueError(f"{source}: needs the package onnx: pip install 'transdomain[onnx]'") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # it raises protobuf's own, which is no dependency of ours
        raise ValueError(f"{source}: no ONNX model: {one_line(error)}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ValueError(f"{source}: its weights are in another file; save it as one, with external_data=False")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    takes, gives = (
        _only(values, what, source).type.tensor_type
        for values, what in ((inputs, "input"), (list(model.graph.output), "output"))
    )
    _check_floats([takes.elem_type, gives.elem_type], onnx.TensorProto.FLOAT, source)
    shapes = [[dim.dim_value or None for dim in tensor.shape.dim] for tensor in (takes, gives)]
    return _Found(takes=shapes[0], gives=shapes[1], metadata={each.key: each.value for each in model.metadata_props})


_FLOAT_OF_PT2 = 7
"""Number of fp32 among the types of torch's schema of exported programs."""


def _check_floats(types: Sequence[int], fp32: int, source: str) -> None:
    if set(types) != {fp32}:
        raise ValueError(f"{source}: takes or gives numbers that are not fp32; export it in fp32")


def _only(values: list[Any], what: str, source: str) -> Any:
    if len(values) != 1:
        raise ValueError(f"{source}: has {len(values)} {what}s, and a generator of images has one")
    return values[0]


def _settled(url: str, source: str, found: _Found, said: Mapping[str, Any]) -> tuple[Program, str, int | None]:
    """Return the program, its direction and its training size, by its YAML and, where that is silent, its file."""

    def value(name: str) -> Any:
        known = said[name] if name in said else found.metadata.get(name)
        return json.loads(known) if isinstance(known, str) else known

    for name, shape in (("input", found.takes), ("output", found.gives)):
        if shape and len(shape) != 4:
            raise ValueError(f"{source}: its {name} has {len(shape)} dimensions, and images have four, [N, C, H, W]")
    missing = [each for each in ("value_range", "size_multiple") if each not in said and each not in found.metadata]
    if missing:
        name = source.rpartition("/")[2]
        where = "" if said else f"; write a YAML file with `program: {name}` and these, and give that"
        raise ValueError(f"{url}: does not say its {' and '.join(missing)}{where}")
    channels = said.get("channels") or [shape[1] if shape else None for shape in (found.takes, found.gives)]
    try:
        takes, gives = (int(each) for each in channels)
        low, high = (float(each) for each in value("value_range"))
        multiple = int(value("size_multiple"))
        least = int(value("least_size") or multiple)
        size = value("training_size")
        size = None if size is None else int(size)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{url}: channels, value_range, size_multiple, least_size or training_size is no number, or no pair of "
            f"them: {one_line(error)}"
        ) from error
    if not low < high or min(takes, gives, multiple, least) < 1 or least % multiple:
        raise ValueError(
            f"{url}: value_range must rise, numbers must be positive, and least_size a multiple of size_multiple"
        )
    direction = said.get("direction", found.metadata.get("direction", "a_to_b"))
    if direction not in OPPOSITE:
        raise ValueError(f"{url}: direction is {direction!r}; it must be {' or '.join(OPPOSITE)}")
    is_callable = bool(_FACTORY.fullmatch(source))
    dtype = said.get("dtype", "float32")
    if dtype not in ("float32", "uint8") or (dtype == "uint8" and not is_callable):
        raise ValueError(f"{url}: dtype is {dtype!r}; it must be float32, or uint8 for a callable")
    batch, _, height, width = found.takes or [None] * 4
    if height and width:
        if height % multiple or width % multiple or size not in (None, height):
            raise ValueError(
                f"{url}: takes images of {width} × {height} pixels alone, which do not fit its size_multiple, "
                f"{multiple}, or its training_size, {size}"
            )
        size, least = (height, height) if height == width else (None, least)
    program = Program(
        source=source,
        format="callable" if is_callable else "pt2" if source.endswith(".pt2") else "onnx",
        in_channels=takes,
        out_channels=gives,
        value_range=(low, high),
        size_multiple=multiple,
        least_size=least,
        fixed_size=(height, width) if height and width else None,
        fixed_batch=batch,
        dtype=dtype,
    )
    return program, direction, size
