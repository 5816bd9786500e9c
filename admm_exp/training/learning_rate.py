"""Learning rate of an epoch, as a pure function of its position."""

from math import cos, pi


def epoch_lr(decay: str, base: float, epoch: int, epochs: int, warmup_epochs: int = 0) -> float:
    """Compute the learning rate of one epoch of a phase.

    Args:
        decay: "constant", "cosine" (from base towards 0) or "step" (x0.1 at 1/2 and 3/4).
        base: Highest learning rate.
        epoch: Epoch, counted from 0.
        epochs: Epochs of the phase.
        warmup_epochs: Epochs of a linear rise to base at the start.

    Raises:
        ValueError: If decay is unknown.
    """
    if epoch < warmup_epochs:
        return base * (epoch + 1) / (warmup_epochs + 1)
    progress = (epoch - warmup_epochs) / max(1, epochs - warmup_epochs)
    if decay == "constant":
        return base
    if decay == "cosine":
        return base * 0.5 * (1.0 + cos(pi * progress))
    if decay == "step":
        return base * 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
    raise ValueError(f"decay must be constant, cosine or step, got {decay!r}")


def admm_lrs(decay: str, base: float, iterations: int, epochs_per_iteration: int) -> list[float]:
    """List the learning rates of all epochs of the ADMM phase.

    Args:
        decay: "constant", "cosine" (over the whole phase) or "thirds" (inside every iteration,
            x0.1 after each third of it).
        base: Highest learning rate, admm_lr.
        iterations: Number of ADMM iterations.
        epochs_per_iteration: Epochs of an iteration, admm_epoch.

    Raises:
        ValueError: If decay is unknown.
    """
    if decay not in {"constant", "cosine", "thirds"}:
        raise ValueError(f"admm_decay must be constant, cosine or thirds, got {decay!r}")
    n = iterations * epochs_per_iteration
    if decay == "thirds":
        third = max(1.0, epochs_per_iteration / 3)
        return [base * 0.1 ** min(2, int((e % epochs_per_iteration) / third)) for e in range(n)]
    return [epoch_lr(decay, base, e, n) for e in range(n)]
