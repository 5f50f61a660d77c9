"""What a benchmark found, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from pipeline.benchmark.translation import Measured


def show(measured: Measured, console: Console) -> None:
    """Machine, limits, speeds and ratios, in this order."""
    for table in _tables(measured):
        console.print(table)


def as_json(measured: Measured) -> bytes:
    """Everything that was measured, with every repetition."""
    ratios = {name: ratio._asdict() for name, ratio in measured.ratios.items()}
    fields = dataclasses.asdict(measured) | {"pipeline": measured.pipeline._asdict(), "ratios": ratios}
    return json.dumps(fields, indent=2).encode() + b"\n"


def _tables(measured: Measured) -> Iterator[Table]:
    config, arithmetic, machine = measured.config, measured.arithmetic, measured.machine
    table = _table("Machine", "", "")
    table.add_row("device", machine["device"])
    table.add_row("cores", str(machine["cores"]))
    table.add_row("CPU capability", machine["cpu_capability"])
    table.add_row("torch", machine["torch"])
    table.add_row("load before the run", f"{machine['load']:.1f}")
    yield table

    table = _table("Its own limits", "", "rate")
    for precision, flops in measured.matmul_flops.items():
        table.add_row(f"dense matmul, {precision}", f"{flops / 1e12:.3f} TFLOP/s")
    table.add_row("memory copy, read + write", f"{measured.copy_bytes / 1e9:.1f} GB/s")
    yield table

    network = f"ResNet-{config.blocks}, width {config.width}, {config.size}², {measured.flop / 1e9:.1f} GFLOP an image"
    table = _table(f"Translation: {network}", "", "img/s", "best", "GFLOP/s", "of dense")
    ours = f"{arithmetic.precision}, batch {arithmetic.batch}, {'compiled' if arithmetic.compile else 'eager'}"
    rows = (
        ("plain loop: fp32, batch 1, eager", measured.plain, measured.best["plain"], "fp32"),
        (f"model alone: {ours}", measured.model, measured.best["model"], arithmetic.precision),
        (f"pipeline: {ours}", measured.pipeline.rate, measured.best["pipeline"], arithmetic.precision),
    )
    for name, rate, best, precision in rows:
        flops = rate * measured.flop
        share = flops / measured.matmul_flops[precision]
        table.add_row(name, f"{rate:.2f}", f"{best:.2f}", f"{flops / 1e9:.0f}", f"{share:.2f} {precision}")
    table.caption = (
        f"medians of {config.repeats}. Plain loop: JPEG to PNG. Pipeline: {config.images} images, Parquet to Parquet, "
        f"from the first unit's receipt to the last one's; "
        f"first receipt after {measured.pipeline.first_s:.1f} s, whole job {measured.pipeline.wall_s:.1f} s"
    )
    yield table

    table = _table("Ratios", "", "median", "of the bests")
    for name, ratio in measured.ratios.items():
        table.add_row(name, f"{ratio.median:.2f}", f"{ratio.of_bests:.2f}")
    yield table


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right")
    return table
