"""Batch norm scales as scores."""

from torch import Tensor

from admm_exp.admm.groups import Units


class BNScale:
    """Sum of |gamma| over the norm layers of a unit; what they scale is not read.

    References:
        Liu et al. 2017, Network slimming, arXiv 1708.06519.
    """

    needs_scales = True

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,), from the columns that hold gamma."""
        return theta[:, list(group.scale_columns)].abs().sum(dim=1)
