"""Configuration of `jobs.export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError

EXTENSIONS = (".onnx", ".pt2")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Bundle that `jobs.export` reads, and the file that it writes."""

    bundle: str
    """Model bundle: the folder that training wrote."""
    output: str
    """File to write: NAME.onnx for an ONNX model, NAME.pt2 for a program of torch.export."""
    direction: Literal["a_to_b", "b_to_a"] | None = None
    """Direction whose generator to export; by default the one that the bundle was trained for."""

    def __post_init__(self) -> None:
        if not self.output.endswith(EXTENSIONS):
            raise UserError(
                f"output {self.output}: its name must end in {' or '.join(EXTENSIONS)}, which says the format"
            )
