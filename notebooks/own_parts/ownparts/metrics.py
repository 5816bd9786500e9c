"""A score of channels."""

from torch import Tensor


class MaxNorm:
    """Largest absolute value of a channel, over all members of its group."""

    def __call__(self, theta: Tensor, group: object) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        return theta.abs().amax(dim=1)
