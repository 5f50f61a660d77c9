"""Records of a run in its folder: run.json and arithmetic.json from its first start on, result.json at its end."""

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

_NO_LONGER_RECIPE = ("compile", "channels_last")
"""Options that earlier versions recorded, and that may change when a run goes on."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of a finished run."""

    run: str
    bundle: str
    """URL of the model bundle of the last step."""
    best_bundle: str = ""
    """URL of the bundle that validation found best; empty where that is the last one or nothing was validated."""
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)
    """Losses of the last step."""
    validation: History = ()
    """History of the validations on held-out images; see `pipeline.training.validation.validator`."""
    fresh: bool = True
    """True where this start did any work."""


StartIdentity = Mapping[str, Any]
"""Identity of the weights that a run begins with, as in `warm_start.Start.identity`; empty for random ones."""


def begun_recipe(config: TrainConfig) -> Mapping[str, Any] | None:
    """Return the recipe that the run in `config.output` began with; None where there is no run.

    Raises UserError where the folder does not hold a run that this version knows.
    """
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
    return {name: value for name, value in begun.items() if name not in _NO_LONGER_RECIPE}


def check_recipe(config: TrainConfig, start: StartIdentity | None = None) -> None:
    """Refuse to continue the run in `config.output` with another recipe than it began with. Reads only.

    Raises UserError showing each difference, or where the folder holds other files and no run.
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
    """Return the identity of the weights that the run in `config.output` began with; empty if random or no run."""
    return (begun_recipe(config) or {}).get("start_from", {})


def begin(config: TrainConfig, start: StartIdentity | None = None) -> None:
    """Record the recipe at the first start. Raises UserError where a concurrent start recorded another one."""
    document = {"format_version": FORMAT_VERSION, "recipe": _recipe(config, start)}
    storage.create(_url(config, "run.json"), (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())
    check_recipe(config, start)


def kept_arithmetic(config: TrainConfig) -> Mapping[str, Any] | None:
    """Return the arithmetic that the run has recorded; None where it has not. Raises ValueError where it is damaged."""
    url = _url(config, "arithmetic.json")
    data = storage.read_if_there(url)
    if data is None:
        return None
    try:
        document = json.loads(data)
        return {"precision": document["precision"], "trunk": document["trunk"]}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{url} is damaged; put it back from a copy, or begin another run") from None


def keep_arithmetic(config: TrainConfig, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Record the arithmetic before the first step; return the one that is there, which another start may have made."""
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    storage.create(_url(config, "arithmetic.json"), text.encode())
    kept = kept_arithmetic(config)
    assert kept is not None
    return kept


def finish(config: TrainConfig, result: TrainResult) -> None:
    """Record that the run has ended; this is the last thing written."""
    fields = {name: metrics.finite(value) for name, value in asdict(result).items() if name != "fresh"}
    document = {"format_version": FORMAT_VERSION} | fields
    storage.replace(_url(config, "result.json"), (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def finished(config: TrainConfig, total_steps: int) -> TrainResult | None:
    """Return the result of an earlier start, if that went at least as far as this configuration asks; else None."""
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
    """Return True where a run that has reached `step`, with this `history` of validations, has ended."""
    validation = config.validation
    return step >= total_steps or bool(stopped_early(history, validation.metric, validation.patience))


def _url(config: TrainConfig, name: str) -> str:
    return storage.join(config.output, name)
