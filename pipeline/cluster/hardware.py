"""What this machine computes in, and with how many threads. Imported by workers; knows no Ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

Trunk = Literal["direct", "winograd"]
"""How a ResNet's residual blocks convolve."""

MALLOC_ENVIRONMENT = {
    # glibc gives large blocks back to the kernel at every free; keeping them is worth up to 1.5 × on a CPU.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def default_device() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def supported_precisions(device: str) -> tuple[str, ...]:
    """Precisions that `device` has in hardware. bf16 in emulation is hundreds of times slower than fp32."""
    if device == "cuda":
        return ("fp32", "bf16") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp32",)
    return ("fp32", "bf16") if _cpu_has_bf16() else ("fp32",)


def choose_precision(requested: str, device: str) -> str:
    """`auto` becomes bf16 where the hardware has it, else fp32. Raises ValueError for what the device lacks.

    fp16 is for those who ask for it, on a GPU: its range is too small for gradients that are not scaled.
    """
    supported = supported_precisions(device)
    if requested == "auto":
        return supported[-1]
    if requested == "fp16" and device == "cuda":
        return requested
    if requested not in supported:
        raise ValueError(
            f"precision {requested} is not in the hardware of this {device} ({describe(device)}); "
            f"use {' or '.join(supported)}"
        )
    return requested


def choose_trunk(requested: Literal["auto"] | Trunk, *, kind: str, device: str, precision: str) -> Trunk:
    """`auto` becomes winograd where a CPU computes a `kind` of generator, a resnet, in fp32; else direct.

    Raises ValueError for winograd in another place: a quarter of the multiplications pays where they are dear, and
    the transforms want fp32.
    """
    pays = (kind, device, precision) == ("resnet", "cpu", "fp32")
    if requested == "winograd" and not pays:
        raise ValueError(
            f"trunk winograd is for a resnet on a CPU in fp32, and this is a {kind} on {device} in {precision}; "
            f"set trunk to auto{' or precision to fp32' if device == 'cpu' else ''}"
        )
    return "winograd" if pays and requested != "direct" else "direct"


def describe(device: str) -> str:
    """One line about the device: its name, and on a CPU what it multiplies matrices with."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {cpu_capability()}, {available_cpus()} cores"


def cpu_capability() -> str:
    """The widest matrix instructions of this CPU that torch uses: amx, avx512_bf16, or what torch reports."""
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    return torch.backends.cpu.get_cpu_capability().lower()


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def set_up_torch(device: torch.device, threads: int) -> None:
    """This many threads and, on a CPU, the same bits each time. For a process that trains or validates."""
    torch.set_num_threads(threads)
    if device.type == "cpu":
        # On a GPU some backward passes that the networks need have no deterministic form.
        torch.use_deterministic_algorithms(True)
        # A debugging aid that comes with it, and costs time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "CPU"
