"""The learning rate over the epochs (Zhu et al. 2017, section 4: constant, then linear to zero)."""


def learning_rate_factor(epoch: int, *, constant_epochs: int, decay_epochs: int) -> float:
    """What to multiply the initial learning rate with in `epoch`, counted from 1.

    1 up to epoch `constant_epochs`, then down in a straight line that would reach 0 one epoch after the last.
    """
    if epoch < 1:
        raise ValueError(f"epoch is {epoch}: epochs are counted from 1")
    return max(0.0, 1.0 - max(0, epoch - constant_epochs) / (decay_epochs + 1))
