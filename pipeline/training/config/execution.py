"""Ways to run the same arithmetic: compiled or not, in which memory format, as a CUDA graph or kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.training.config.sections import When
from pipeline.training.config.train import TrainConfig

COMPILE_STEPS = 2000
"""Steps of a run from which compiling pays on a GPU: it takes a minute or two, and halves a step of 30 ms or more."""
CAPTURE_STEPS = 500
"""Steps of a run from which a capture pays."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Way in which the steps of a run are executed."""

    compile: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    cuda_graphs: bool = False


def execution_of(config: TrainConfig, device: torch.device, *, precision: str, steps: int) -> Execution:
    """Return how a run of so many steps is executed on `device`, in this precision."""
    gpu = device.type == "cuda"
    # Reductions over workers, and the scaler of fp16, need the host in the middle of a step.
    can_capture = gpu and config.workers == 1 and precision != "fp16"
    return Execution(
        compile=_is_on(config.compile, auto=gpu and steps >= COMPILE_STEPS),
        memory_format=memory_format_of(config, device),
        cuda_graphs=can_capture and _is_on(config.cuda_graphs, auto=steps >= CAPTURE_STEPS),
    )


def memory_format_of(config: TrainConfig, device: torch.device) -> torch.memory_format:
    """Return the memory format of images and weights."""
    nhwc = _is_on(config.channels_last, auto=device.type == "cuda")
    return torch.channels_last if nhwc else torch.contiguous_format


def _is_on(when: When, *, auto: bool) -> bool:
    return auto if when == "auto" else when == "always"
