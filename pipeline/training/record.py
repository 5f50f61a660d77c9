"""What a run's folder says of the run: run.json from its first start on, result.json once it has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline import storage
from pipeline.errors import UserError
from pipeline.recipe import differences
from pipeline.training.config.train import TrainConfig
from pipeline.training.monitor import metrics
from pipeline.training.validation.validator import History, stopped_early

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run."""

    run: str
    bundle: str
    """URL of the model bundle, of the last step."""
    best_bundle: str = ""
    """URL of the bundle that validation found best; empty where that is the last, or nothing was validated."""
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)
    """Of the last step."""
    validation: History = ()
    """What was measured on held-out images; see `pipeline.training.validation.validator`."""
    fresh: bool = True
    """Whether this start did something."""


StartIdentity = Mapping[str, Any]
"""Which weights a run begins with, as `warm_start.Start.identity` says it; empty for random ones."""


def begun_recipe(config: TrainConfig) -> Mapping[str, Any] | None:
    """The recipe that the run in `config.output` began with; None where there is no run. Raises UserError where what
    is there is not of a run that this version knows."""
    data = storage.read_if_there(_url(config, "run.json"))
    if data is None:
        return None
    try:
        document = json.loads(data)
        version, begun = document["format_version"], document["recipe"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{config.output}: its run.json is not one of a training run; choose another output") from None
    if version != FORMAT_VERSION:
        raise UserError(f"{config.output}: run format {version}, and this version knows {FORMAT_VERSION}")
    return begun


def check_recipe(config: TrainConfig, start: StartIdentity | None = None) -> None:
    """Refuse to go on with another recipe than the run in `config.output` began with. Reads only.

    Raises UserError showing each difference, and where there are other files in the place of a run.
    """
    begun = begun_recipe(config)
    if begun is None:
        storage.require_empty(config.output, unless=("run.json", "checkpoints/"))
        return
    changes = [f"{name} was {old} and is {new} now" for name, old, new in differences(begun, _recipe(config, start))]
    if changes:
        raise UserError(
            f"{config.output}: this run began with another recipe: {'; '.join(changes)}; "
            "go on with the recipe it has, or choose another output"
        )


def begun_with(config: TrainConfig) -> StartIdentity:
    """The weights that the run in `config.output` began with; empty where they were random, or there is no run."""
    return (begun_recipe(config) or {}).get("start_from", {})


def begin(config: TrainConfig, start: StartIdentity | None = None) -> None:
    """Note the recipe at the first start. Raises UserError where another start with another recipe was quicker."""
    document = {"format_version": FORMAT_VERSION, "recipe": _recipe(config, start)}
    storage.create(_url(config, "run.json"), (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())
    check_recipe(config, start)


def finish(config: TrainConfig, result: TrainResult) -> None:
    """Note that the run has ended; the last thing written."""
    fields = {name: metrics.finite(value) for name, value in asdict(result).items() if name != "fresh"}
    document = {"format_version": FORMAT_VERSION} | fields
    storage.replace(_url(config, "result.json"), (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def finished(config: TrainConfig, total_steps: int) -> TrainResult | None:
    """The result of an earlier start, where that went at least as far as is wanted now."""
    data = storage.read_if_there(_url(config, "result.json"))
    if data is None:
        return None
    document = json.loads(data)
    history = tuple(metrics.with_nan(document.get("validation", [])))
    if not is_last(config, document["steps"], history, total_steps):
        return None
    return TrainResult(
        run=config.output,
        bundle=storage.join(config.output, "bundle"),
        best_bundle=document.get("best_bundle") and storage.join(config.output, "bundle_best"),
        steps=document["steps"],
        losses=metrics.with_nan(document["losses"]),
        validation=history,
        fresh=False,
    )


def _recipe(config: TrainConfig, start: StartIdentity | None) -> dict[str, Any]:
    return config.recipe() | ({"start_from": dict(start)} if start else {})


def is_last(config: TrainConfig, step: int, history: History, total_steps: int) -> bool:
    """Whether a run that has come to `step`, with this `history` of validations, has ended."""
    validation = config.validation
    return step >= total_steps or bool(stopped_early(history, validation.metric, validation.patience))


def _url(config: TrainConfig, name: str) -> str:
    return storage.join(config.output, name)
