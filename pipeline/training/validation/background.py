"""Validation beside training: another process measures a copy of the generators while the next steps are done.

Knows no Ray. Scores belong to the step whose weights were measured, whenever they come. What is under way when a run
ends is noted in its checkpoint and begun again from the checkpoint of that step, which holds those weights. So a run
decides and ends the same, whether it validates inline or beside, and wherever it was killed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.cluster import hardware
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.checkpoint import CheckpointError, Record
from pipeline.training.checkpoints.writer import copied
from pipeline.training.config.train import TrainConfig
from pipeline.training.model.directions import places
from pipeline.training.model.replica import build_objective, memory_format_of
from pipeline.training.validation.validator import Validator, validated_on

States = Mapping[str, Mapping[str, Tensor]]
"""Weights of generators, by network."""

Scores = Mapping[str, float]


class ValidatorLostError(Exception):
    """The process that validates cannot be reached any more, or has failed; the message says why."""


class Pending(Protocol):
    """Scores that will come."""

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""

    def result(self) -> Scores:
        """Wait for them. Raises ValidatorLostError."""


Submit = Callable[[States], Pending]
"""Has generators measured by another process. They may change once it returns. Raises ValidatorLostError."""


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A validation that was under way at a checkpoint."""

    step: int
    states: States
    """The weights after that step, their moving average where there is one."""


class BesideValidator:
    """What the other process holds: the held-out images, and generators to put weights into."""

    def __init__(self, config: TrainConfig, device: str, threads: int) -> None:
        """On `device` (cpu or cuda), with torch's `threads`. Raises what `Validator` raises."""
        where = torch.device(device)
        hardware.set_up_torch(where, threads)
        self._validator = Validator(config, where)
        objective = build_objective(config.model(), config.seed)
        self._generators = {name: objective.networks[name] for name in objective.generator_names}
        for network in self._generators.values():
            network.to(device=where, memory_format=memory_format_of(config))  # type: ignore[call-overload]

    def ready(self) -> None:
        """Returns once it can measure."""

    def measure(self, states: States) -> Scores:
        """What generators with these weights reach."""
        for name, weights in states.items():
            self._generators[name].load_state_dict(weights)
        return self._validator.measure(self._generators)


class Validations:
    """The validations of a run, one at a time, for rank 0. Inline the scores are there as soon as one has begun.

    Should the other process be lost, what it had to measure is measured here, and so is all that follows.
    """

    def __init__(
        self,
        validator: Validator,
        generators: Mapping[str, nn.Module],
        beside: Submit | None,
        say: Callable[[str], None],
    ) -> None:
        """`generators` are those in training, by network. Without `beside` all is measured here, inline."""
        self._validator, self._generators, self._beside, self._say = validator, generators, beside, say
        self._under_way: tuple[int, Pending] | None = None

    @property
    def step(self) -> int | None:
        """The step whose scores are still to come."""
        return self._under_way[0] if self._under_way else None

    def begin(self, step: int, networks: Mapping[str, nn.Module]) -> None:
        """Measure `networks`, which may change once this returns. The scores before must have been taken."""
        assert self._under_way is None
        if self._beside is None:
            self._under_way = step, _There(self._validator.measure(networks))
            return
        states = copied({name: networks[name].state_dict() for name in self._generators})
        try:
            self._under_way = step, _Backed(self._beside(states), lambda error: self._instead(states, error))
        except ValidatorLostError as error:
            self._under_way = step, _There(self._instead(states, error))

    def take(self, *, wait: bool) -> tuple[int, Scores] | None:
        """A step and its scores, once; None where there are none yet. With `wait` only where none is under way."""
        if self._under_way is None or not (wait or self._under_way[1].done()):
            return None
        (step, pending), self._under_way = self._under_way, None
        return step, pending.result()

    def _instead(self, states: States, error: ValidatorLostError) -> Scores:
        self._say(f"validation beside training has failed ({error}); from here on training waits while it is measured")
        self._beside = None
        return self._validator.measure(with_weights(self._generators, states))


@dataclass(frozen=True)
class _There:
    scores: Scores

    def done(self) -> bool:
        return True

    def result(self) -> Scores:
        return self.scores


@dataclass(frozen=True)
class _Backed:
    """Scores that are had in another way where they do not come."""

    pending: Pending
    otherwise: Callable[[ValidatorLostError], Scores]

    def done(self) -> bool:
        return self.pending.done()

    def result(self) -> Scores:
        try:
            return self.pending.result()
        except ValidatorLostError as error:
            return self.otherwise(error)


def with_weights(networks: Mapping[str, nn.Module], states: States) -> dict[str, nn.Module]:
    """`networks`, with copies that hold these weights in the place of those that `states` names."""
    found = dict(networks)
    for name, weights in states.items():
        found[name] = copy.deepcopy(networks[name])
        found[name].load_state_dict(weights)
    return found


def unfinished(config: TrainConfig, record: Record, say: Callable[[str], None]) -> Unfinished | None:
    """What was being validated at the checkpoint `record`; None where nothing was, or no longer on these images.

    Where the checkpoint of that step cannot be read it is None, and `say` is told. Raises StorageError.
    """
    step = under_way(record.about)
    if step is None or record.about.get("validated_on") != validated_on(config):
        return None
    try:
        measured = checkpoint.read_record(config.output, step)
        parts = {
            name: checkpoint.read_part(config.output, measured, name)
            for name in ("networks", "ema")
            if name in measured.parts
        }
    except CheckpointError as error:
        say(f"{error}; the validation of step {step} is left out")
        return None
    weights = {**parts["networks"], **parts.get("ema", {})}
    return Unfinished(step=step, states={place.generator: weights[place.generator] for place in places(config)})


def under_way(about: Mapping[str, Any]) -> int | None:
    """The step whose scores are missing in the history of a checkpoint's record, where there is one."""
    return about.get("validating")
