"""Report of a training run on one page: RUN/report.html, with its curves and its last samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.content import Figure, Report
from pipeline.report.curves import curves
from pipeline.report.html import render_report
from pipeline.training.config.train import TrainConfig
from pipeline.training.record import TrainResult
from pipeline.training.validation.validator import best_step

Lines = Sequence[Mapping[str, Any]]


def training_report(config: TrainConfig, result: TrainResult, lines: Lines, samples_png: bytes | None) -> str:
    """Return the HTML page of a finished run with these lines of metrics."""
    facts = [
        ("steps", f"{result.steps:,}"),
        ("objective", f"{config.objective}, {config.direction.replace('_', ' ')}"),
        ("images in a step", f"{config.global_batch}"),
    ]
    best = best_step(result.validation, config.validation.metric)
    if best is not None:
        facts.append(("best validation", f"step {best:,}"))
    figures = [
        Figure(title="Losses", html=_curves(lines, "losses")),
        *(
            Figure(title=f"Validation: {name}", html=_curves(lines, "validation", name))
            for name in _names(lines, "validation")
        ),
        Figure(title="Gradient norms", html=_curves(lines, "gradient_norms")),
    ]
    return render_report(
        Report(
            title="Training run",
            status="complete",
            subtitle=config.output,
            facts=facts,
            figures=[figure for figure in figures if figure.html],
            sheet_png=samples_png,
            quarantine_total=None,
        )
    )


def _curves(lines: Lines, kind: str, only: str | None = None) -> str:
    """Return the curves of the values under `kind`, each over its steps."""
    return curves(
        {
            name: [(line["step"], line[kind][name]) for line in lines if name in line.get(kind, {})]
            for name in _names(lines, kind)
            if only in (None, name)
        }
    )


def _names(lines: Lines, kind: str) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line.get(kind, {})))
