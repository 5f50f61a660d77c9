"""Generators that come as programs: a .pt2 of torch.export, an ONNX model, or a Python callable, as they describe
themselves.

A file that `jobs.export` wrote says all that has to be known. Of others, and of a callable, a small YAML file says it,
which is given in their place:

    program: model.onnx         # beside this file, or a URL; or PACKAGE.MODULE:FACTORY
    value_range: [0, 1]         # of inputs and outputs
    size_multiple: 32           # height and width are multiples of it
    least_size: 32              # smallest height and width; size_multiple where it is left out
    channels: [3, 3]            # taken and given, where the file does not say
    training_size: 256          # side for --size training and original
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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from gan_models.description import sha256_of
from pipeline import storage
from pipeline.errors import UserError, one_line

_ENDINGS = (".pt2", ".onnx", ".yaml", ".yml")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_METADATA = "metadata.json"
_ORDINARY_SIZE = 256
DIRECTION = "a_to_b"
"""Direction that a program is taken to have."""


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
    size: int | None
    """Side, in pixels, of the square images that it was trained with, or takes alone; None where nobody said it."""
    sha256: str
    """Fingerprint of its file, or of its module's source, and of what is said about it."""

    @property
    def generator_configs(self) -> Mapping[str, Program]:
        return {DIRECTION: self.program}

    @property
    def directions(self) -> tuple[str, ...]:
        return (DIRECTION,)

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


def describe_program(url: str) -> ProgramDescription:
    """Return what a program's file and its YAML say of it.

    Raises ValueError of one line for what does not fit: a missing file or module, more than one input, a value that is
    not said anywhere.
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
    program, size = _settled(url, source, found, said)
    about = dataclasses.asdict(program) | {"source": sha256_of(data), "version": str(said.get("version", ""))}
    return ProgramDescription(
        place=url, program=program, size=size, sha256=sha256_of(json.dumps(about, sort_keys=True).encode())
    )


@dataclass(kw_only=True)
class _Found:
    """What a file says of itself; None and empty where it does not."""

    takes: list[int | None] = dataclasses.field(default_factory=list)
    """Shape [N, C, H, W] of its input, None for each free number."""
    gives: list[int | None] = dataclasses.field(default_factory=list)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


_KEYS = {
    "program", "value_range", "size_multiple", "least_size", "channels", "training_size", "dtype", "version",
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
    return storage.read(url)


def _module_source(module: str) -> bytes:
    """Return the source of a module. Raises ValueError where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ValueError(f"module {module} cannot be found: {one_line(error)}") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ValueError(f"module {module} cannot be found; it must be installed, or lie where Python starts")
    with open(spec.origin, "rb") as file:
        return file.read()


def _look_into_pt2(data: bytes, source: str) -> _Found:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            graph = json.loads(archive.read(names["models/model.json"]))["graph_module"]
            extra = names.get(f"extra/{_METADATA}")
            metadata = json.loads(archive.read(extra)) if extra else {}
        takes = [each["user_input"]["arg"] for each in graph["signature"]["input_specs"] if "user_input" in each]
        gives = [each["user_output"]["arg"] for each in graph["signature"]["output_specs"] if "user_output" in each]
        shapes = [
            [size.get("as_int") for size in graph["graph"]["tensor_values"][one["as_tensor"]["name"]]["sizes"]]
            for one in (_only(takes, "input", source), _only(gives, "output", source))
        ]
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
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
    weights = {tensor.name for tensor in model.graph.initializer}
    takes, gives = (
        [dim.dim_value or None for dim in _only(values, what, source).type.tensor_type.shape.dim]
        for values, what in (
            ([value for value in model.graph.input if value.name not in weights], "input"),
            (list(model.graph.output), "output"),
        )
    )
    return _Found(takes=takes, gives=gives, metadata={each.key: each.value for each in model.metadata_props})


def _only(values: list[Any], what: str, source: str) -> Any:
    if len(values) != 1:
        raise ValueError(f"{source}: has {len(values)} {what}s, and a generator of images has one")
    return values[0]


def _settled(url: str, source: str, found: _Found, said: Mapping[str, Any]) -> tuple[Program, int | None]:
    """Return the program, and its training size, from what its file says and, first, what its YAML does."""

    def value(name: str) -> Any:
        known = said[name] if name in said else found.metadata.get(name)
        return json.loads(known) if isinstance(known, str) else known

    for name, shape in (("input", found.takes), ("output", found.gives)):
        if shape and len(shape) != 4:
            raise ValueError(f"{source}: its {name} has {len(shape)} dimensions, and images have four, [N, C, H, W]")
    missing = [name for name in ("value_range", "size_multiple") if value(name) is None]
    if missing:
        where = (
            "" if said else f"; write a YAML file with `program: {source.rpartition('/')[2]}` and these, and give that"
        )
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
            f"{url}: value_range must rise, counts must be positive, least_size a multiple of size_multiple"
        )
    dtype = said.get("dtype", "float32")
    if dtype not in ("float32", "uint8") or (dtype == "uint8" and not _FACTORY.fullmatch(source)):
        raise ValueError(f"{url}: dtype is {dtype!r}; it must be float32, or uint8 for a callable")
    batch, _, height, width = found.takes or [None] * 4
    if size is None and height == width:
        size = height
    return Program(
        source=source,
        format="callable" if _FACTORY.fullmatch(source) else "pt2" if source.endswith(".pt2") else "onnx",
        in_channels=takes,
        out_channels=gives,
        value_range=(low, high),
        size_multiple=multiple,
        least_size=least,
        fixed_size=(height, width) if height and width else None,
        fixed_batch=batch,
        dtype=dtype,
    ), size
