"""Configuration of `jobs.export`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.errors import UserError

EXTENSIONS = (".onnx", ".pt2")

_REPOSITORY = re.compile(r"hf://(datasets/|models/)?([\w.-]+/[\w.-]+)/?")


class Repository(NamedTuple):
    """Repository on the Hugging Face hub."""

    kind: Literal["dataset", "model"]
    name: str
    """OWNER/NAME."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What `jobs.export` reads, and the file that it writes, or the repository that it pushes to."""

    bundle: str = ""
    """Model bundle: the folder that training wrote."""
    input: str = ""
    """Dataset to push instead of a bundle: the finished output of a job."""
    output: str = ""
    """File to write from a bundle: NAME.onnx for an ONNX model, NAME.pt2 for a program of torch.export."""
    to: str = ""
    """Repository on the Hugging Face hub to push to instead: hf://OWNER/NAME for a bundle, hf://datasets/OWNER/NAME
    for a dataset. It is made where it is not there. The token is HF_TOKEN, or that of `hf auth login`."""
    direction: Literal["a_to_b", "b_to_a"] | None = None
    """Direction whose generator to write to a file; by default the one that the bundle was trained for."""
    public: bool = False
    """Push to a repository that everybody can read; else it is private, and a public one is refused."""
    license: str = ""
    """Licence for the card, as the hub names it: apache-2.0, cc-by-4.0, …; by default none is named."""
    scores: str = ""
    """JSON file of results for the card: a list of {"metric", "value", "protocol"}."""

    def __post_init__(self) -> None:
        if bool(self.output) == bool(self.to):
            raise UserError("give either --output, a file to write, or --to, a repository to push to")
        if self.to:
            self._check_push()
            return
        if not self.bundle or self.input:
            raise UserError(f"output {self.output}: a file is made from a bundle; give it as --bundle, and no --input")
        if not self.output.endswith(EXTENSIONS):
            raise UserError(
                f"output {self.output}: its name must end in {' or '.join(EXTENSIONS)}, which says the format"
            )
        given = [name for name in ("public", "license", "scores") if getattr(self, name)]
        if given:
            raise UserError(f"--{given[0]} is for a repository; give --to instead of --output, or leave it out")

    def _check_push(self) -> None:
        wanted = self.repository.kind
        if wanted == "dataset" and (self.bundle or not self.input):
            raise UserError(f"to {self.to}: a dataset is pushed there; give a job's output as --input, no --bundle")
        if wanted == "model" and (self.input or not self.bundle):
            raise UserError(
                f"to {self.to}: a model is pushed there; give it as --bundle, or hf://datasets/OWNER/NAME for a dataset"
            )
        if self.direction:
            raise UserError("a bundle is pushed with all its directions; leave out --direction")

    @property
    def repository(self) -> Repository:
        """Repository that `to` names. Raises UserError where it names none."""
        found = _REPOSITORY.fullmatch(self.to)
        if found is None or (found[1] is None and found[2].startswith(("datasets/", "models/", "spaces/"))):
            raise UserError(f"to {self.to}: must be hf://OWNER/NAME for a bundle, or hf://datasets/OWNER/NAME")
        return Repository("dataset" if found[1] == "datasets/" else "model", found[2])
