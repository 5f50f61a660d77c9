"""Ways to run a step: by device, number of workers, precision and length of the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.training.config.execution import CAPTURE_STEPS, COMPILE_STEPS, Execution, execution_of
from tests.pipeline.training import small

GPU, CPU = torch.device("cuda"), torch.device("cpu")
NHWC, NCHW = torch.channels_last, torch.contiguous_format


@pytest.mark.parametrize(
    ("changes", "device", "precision", "steps", "expected"),
    [
        ({}, CPU, "bf16", 10**6, Execution(compile=False, memory_format=NCHW, cuda_graphs=False)),
        ({}, GPU, "bf16", COMPILE_STEPS, Execution(compile=True, memory_format=NHWC, cuda_graphs=True)),
        ({}, GPU, "bf16", CAPTURE_STEPS, Execution(compile=False, memory_format=NHWC, cuda_graphs=True)),
        ({}, GPU, "fp32", CAPTURE_STEPS - 1, Execution(compile=False, memory_format=NHWC, cuda_graphs=False)),
        ({}, GPU, "fp16", COMPILE_STEPS, Execution(compile=True, memory_format=NHWC, cuda_graphs=False)),
        ({"workers": 2}, GPU, "bf16", 10**6, Execution(compile=True, memory_format=NHWC, cuda_graphs=False)),
        ({"compile": "never"}, GPU, "bf16", 10**6, Execution(compile=False, memory_format=NHWC, cuda_graphs=True)),
        ({"compile": "always"}, CPU, "bf16", 1, Execution(compile=True, memory_format=NCHW, cuda_graphs=False)),
        ({"channels_last": "never", "cuda_graphs": "never"}, GPU, "bf16", 1, Execution()),
        ({"channels_last": "always", "cuda_graphs": "always"}, CPU, "fp32", 10**6, Execution(memory_format=NHWC)),
        ({"cuda_graphs": "always"}, GPU, "bf16", 1, Execution(memory_format=NHWC, cuda_graphs=True)),
    ],
)
def test_it_is_chosen(
    changes: dict[str, Any], device: torch.device, precision: str, steps: int, expected: Execution
) -> None:
    config = small.cyclegan("in", "out", **changes)
    assert execution_of(config, device, precision=precision, steps=steps) == expected
