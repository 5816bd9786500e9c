"""What the loss would feel, to first order."""

from collections.abc import Sequence

from torch import Tensor

from admm_exp.admm.groups import Units


class Taylor:
    """Sum of |w * dL/dw| over all members of a unit, averaged over training batches.

        score = sum_s |theta_s| * G_s,    G_s = mean over batches of |dL/dw_s|

    G is measured once, on the network before the pruning; until then all G are 1.

    Args:
        batches: Training batches that G is averaged over.

    References:
        Molchanov et al. 2019, arXiv 1906.10771, section 3 (there squared and without the absolute
        value of every scalar, so that scalars of one unit may cancel).

    Raises:
        ValueError: If batches is below 1.
    """

    def __init__(self, batches: int) -> None:
        if batches < 1:
            raise ValueError(f"batches must be at least 1, got {batches}")
        self.batches = batches
        self.gradients: tuple[Tensor, ...] = ()

    def learn(self, gradients: Sequence[Tensor]) -> None:
        """Take the mean absolute gradients: (n_units, p) of every group, in their order."""
        self.gradients = tuple(gradients)

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        sizes = theta.abs()
        if not self.gradients:
            return sizes.sum(dim=1)
        return (sizes * self.gradients[group.position].to(theta.device)).sum(dim=1)
