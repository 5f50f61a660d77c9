"""Learning rate over a run, as pure functions of progress: a resumed run needs no scheduler's state.

Progress is counted in epochs from 0. At a whole number, the start of an epoch, these functions give what the published
code and torch's schedulers give for that epoch; in between, they can be evaluated at every step.
"""

import math
from collections.abc import Iterable
from typing import Literal

BatchRule = Literal["none", "linear", "sqrt"]


def learning_rate_factor(epoch: int, *, constant_epochs: int, decay_epochs: int) -> float:
    """Return the factor for the initial learning rate in `epoch`, counted from 1 (Zhu et al. 2017, section 4).

    The factor is 1 up to epoch `constant_epochs`, then falls in a straight line that would reach 0 one epoch after the
    last.
    """
    if epoch < 1:
        raise ValueError(f"epoch is {epoch}: epochs are counted from 1")
    return linear_factor(epoch - 1, constant_epochs=constant_epochs, decay_epochs=decay_epochs)


def linear_factor(progress: float, *, constant_epochs: int, decay_epochs: int) -> float:
    """Return 1, then a straight line down to 0 at the end of epoch `constant_epochs` + `decay_epochs`.

    The line begins with the last constant epoch, so that the whole first epoch after it is lower, as published.
    """
    return max(0.0, 1.0 - max(0.0, progress + 1 - constant_epochs) / (decay_epochs + 1))


def step_factor(progress: float, *, step_epochs: int, gamma: float) -> float:
    """Multiply by `gamma` after every `step_epochs` epochs (torch's StepLR)."""
    return gamma ** math.floor(progress / step_epochs)


def cosine_factor(progress: float, *, epochs: int) -> float:
    """Return half a cosine from 1 to 0 over `epochs` (Loshchilov and Hutter 2017, without restarts)."""
    return (1 + math.cos(math.pi * min(1.0, progress / epochs))) / 2


def plateau_factor(metrics: Iterable[float], *, factor: float, patience: int, threshold: float) -> float:
    """Multiply by `factor` whenever more than `patience` metrics in a row, to be minimised, did not beat the best.

    Better means below (1 − `threshold`) × the best so far. `metrics` are all so far, the oldest first; NaN is never
    better. (torch's ReduceLROnPlateau, relative, but without its `eps`, which ignores tiny reductions.)
    """
    best, bad, found = math.inf, 0, 1.0
    for metric in metrics:
        if metric < best * (1 - threshold):
            best, bad = metric, 0
            continue
        bad += 1
        if bad > patience:
            found, bad = found * factor, 0
    return found


def warmup_factor(step: int, *, warmup_steps: int) -> float:
    """Return a straight line over the first `warmup_steps` steps: 1/warmup_steps in step 0, 1 from the last one on.

    (Goyal et al. 2017, section 2.2.)
    """
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def batch_factor(rule: BatchRule, batch: int, *, reference: int) -> float:
    """Return the factor that a batch size gives a learning rate chosen for batches of `reference`.

    `linear` is derived for SGD (Goyal et al. 2017, section 2.1), `sqrt` for Adam (Malladi et al. 2022).
    """
    ratio = batch / reference
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[rule]
