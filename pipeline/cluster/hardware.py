"""Device that this machine computes with, and the precisions that it has in hardware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.cluster.host import available_cpus


def default_device() -> str:
    """Return `cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def supported_precisions(device: str) -> tuple[str, ...]:
    """Return the precisions that `device` supports in hardware.

    Emulated bf16 is hundreds of times slower than fp32.
    """
    if device == "cuda":
        return ("fp32", "bf16") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp32",)
    return ("fp32", "bf16") if _cpu_has_bf16() else ("fp32",)


def describe(device: str) -> str:
    """Return one line about the device: its name and, for a CPU, its matrix instructions and its cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {cpu_capability()}, {available_cpus()} cores"


def cpu_capability() -> str:
    """Return the widest matrix instructions of this CPU that torch uses: amx, avx512_bf16, or what torch reports."""
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    return torch.backends.cpu.get_cpu_capability().lower()


def set_up_torch(device: torch.device, threads: int) -> None:
    """Set the number of threads and, on a CPU, make results the same bits each time.

    For a process that trains or validates.
    """
    torch.set_num_threads(threads)
    if device.type == "cpu":
        # On a GPU, some backward passes of these networks have no deterministic implementation.
        torch.use_deterministic_algorithms(True)
        # A debugging aid that deterministic mode turns on, and that costs time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let this thread compute with so many threads of torch in the block; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "CPU"
