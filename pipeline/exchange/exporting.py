"""Export of a model bundle to one file for other programs, published only once its results match the bundle's."""

from __future__ import annotations

from urllib.parse import urlsplit

import torch

from gan_models import check_onnx, check_pt2, export_onnx, export_pt2, require_onnx
from pipeline import storage
from pipeline.errors import UserError
from pipeline.exchange.export_config import ExportConfig
from pipeline.models.bundles import open_bundle
from pipeline.storage.retry import preflight

MOST_DIFFERENCE = 1e-3
"""Largest difference allowed, of [-1, 1]: an eighth of one step of 8 bits.

A full-size ResNet differs by 1e-5, as far as torch is from fp64.
"""


def export(config: ExportConfig) -> str:
    """Export one generator of the bundle and return one line that says what was written.

    An output with the same bytes stays, and counts as written. Raises UserError where the output is another file, where
    there is no such bundle or direction, or where a package is missing. Raises RuntimeError, with nothing written,
    where the export differs from the generator by more than `MOST_DIFFERENCE`.
    """
    output, onnx = storage.absolute(config.output), config.output.endswith(".onnx")
    if onnx:
        try:
            require_onnx()
        except ImportError as error:
            raise UserError(str(error)) from error
    with preflight(config.bundle):
        bundle = open_bundle(storage.absolute(config.bundle), direction=config.direction)
    _check_folder(output)
    direction = bundle.directions[0]
    generator, architecture = bundle.generator(direction), bundle.generator_configs[direction]
    notes = {"bundle_sha256": bundle.sha256, "direction": direction, "training_size": str(bundle.training_size)}
    try:
        data = (export_onnx if onnx else export_pt2)(generator, architecture, notes=notes)
    except ValueError as error:
        raise UserError(f"{config.bundle}: {error}") from error
    difference = (check_onnx if onnx else check_pt2)(data, generator, architecture)
    if not difference <= MOST_DIFFERENCE:
        raise RuntimeError(
            f"{config.output}: not written: the export differs from the generator by {difference:.2g} of [-1, 1], and "
            f"{MOST_DIFFERENCE:g} is allowed; " + ("export a .pt2 instead" if onnx else "use the bundle itself")
        )
    is_new = storage.create(output, data)
    if not is_new and storage.read(output) != data:
        raise UserError(
            f"{config.output}: is there already, and is not what {config.bundle} gives with torch {torch.__version__}; "
            "remove it, or give another output"
        )
    return (
        f"{config.output}: {'written' if is_new else 'was there already'}: {direction} of {config.bundle}, "
        f"{len(data) / 1e6:.1f} MB, largest difference from the original {difference:.2g}; "
        f"heights and widths are multiples of {architecture.size_multiple}"
    )


def _check_folder(output: str) -> None:
    folder = output.rpartition("/")[0]
    if storage.is_local(output) or urlsplit(folder).netloc:  # an object in the root of memory:// has no folder
        storage.check_output(folder or "/")
