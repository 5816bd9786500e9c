"""One ADMM iteration, scaled form: the Z- and U-step, and the penalty of the W-step."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.projection import Constraint
from admm_exp.admm.residuals import measure
from admm_exp.admm.state import State

PIECE = 2**19
"""Scalars that a CPU works on at once: 2 MB of float32, which its last-level cache keeps."""


@torch.no_grad()
def update(
    weights: Sequence[Tensor],
    state: State,
    constraint: Constraint,
    relaxation: float = 1.0,
    *,
    is_frozen: bool = False,
) -> tuple[State, Residuals]:
    """Do the Z-step and the U-step after a W-step.

        X = a*W + (1-a)*Z_old + U,   Z = X on the kept units, 0 elsewhere,   U = X - Z

    Everything is detached and float32; no tensor of the result aliases a weight.

    Args:
        weights: W, the constrained weights after the W-step.
        state: T, support and rho of the iteration before.
        constraint: Groups and metric.
        relaxation: A, over-relaxation in (0, 2); 1 is none.
        is_frozen: Keep the support instead of choosing it anew.

    Returns:
        The new state and Boyd's residuals with the diagnostics of the iteration.

    References:
        Boyd et al. 2011, sections 3.1.1 and 3.4.3; Zhang et al. 2018, arXiv 1804.03294.

    Raises:
        ValueError: If relaxation is outside (0, 2) or a weight holds NaN.

    Examples:
        >>> from admm_exp.admm.groups import ChannelGroup, Member
        >>> from admm_exp.admm.metrics import L2Norm
        >>> from admm_exp.admm.projection import ChannelConstraint
        >>> from admm_exp.admm.state import initial_state
        >>> W = [torch.tensor([[3.0], [1.0], [2.0]])]  # one layer of three channels, one is to go
        >>> group = ChannelGroup("layer", 3, 2, (Member(0, 0),))
        >>> constraint = ChannelConstraint((group,), L2Norm())
        >>> state, residuals = update(W, initial_state(W, constraint, rho=0.1), constraint)
        >>> state.support[0].tolist()
        [True, False, True]
        >>> residuals.primal_residual  # |W - Z|
        1.0
    """
    if not 0.0 < relaxation < 2.0:
        raise ValueError(f"relaxation must be in (0, 2), got {relaxation}")
    W = [weight.detach().float() for weight in weights]
    old_masks = constraint.masks(state.targets, state.support)
    X = [  # on the units kept so far U is 0 and T is Z, on the others Z is 0 and T is -U
        torch.addcmul(relaxation * w, torch.where(m, 1.0 - relaxation, -1.0).to(w.dtype), t)
        for w, t, m in zip(W, state.targets, old_masks, strict=True)
    ]
    support = state.support if is_frozen else constraint.select(X)
    masks = constraint.masks(X, support)
    # X becomes T where it stands: Z = X on the kept units, -U = -X on the others
    targets = tuple(x.mul_(torch.where(m, 1.0, -1.0)) for x, m in zip(X, masks, strict=True))
    new = State(targets, support, state.rho, state.iteration + 1)
    return new, measure(W, state, new, constraint)


@torch.no_grad()
def add_penalty_gradient_(
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    targets: Sequence[Tensor],
    rho: float,
    shares: Sequence[Tensor] | None = None,
) -> None:
    """Add the gradient of rho/2 * ||W - Z + U||^2, rho * (W - T), to the gradients in place.

    In two passes, + rho * W and then - rho * T, which need no memory for the difference.

    Args:
        gradients: One tensor shaped like each weight; changed in place.
        weights: W, the constrained weights.
        targets: T = Z - U.
        rho: Penalty parameter.
        shares: One tensor shaped like each weight, by which its gradient is multiplied; None for 1.
    """
    if not targets:  # foreach takes no empty lists
        return
    lists = [list(x) for x in (gradients, weights, targets, *([shares] if shares else []))]
    # a GPU gets one kernel a list; the cache of a CPU holds the G of a piece for the second pass
    for G, W, T, *rest in _pieces(*lists) if gradients[0].is_cpu else [lists]:
        if rest:
            torch._foreach_addcmul_(G, W, rest[0], value=rho)
            torch._foreach_addcmul_(G, T, rest[0], value=-rho)
        else:
            torch._foreach_add_(G, W, alpha=rho)
            torch._foreach_add_(G, T, alpha=-rho)


@torch.no_grad()
def add_target_gradient_(
    gradients: Sequence[Tensor], targets: Sequence[Tensor], rho: float
) -> None:
    """Add the part of the penalty's gradient that weight decay rho leaves open, -rho * T.

    Args:
        gradients: One tensor shaped like each target; changed in place.
        targets: T = Z - U.
        rho: Penalty parameter.
    """
    if targets:  # foreach takes no empty lists
        torch._foreach_add_(list(gradients), list(targets), alpha=-rho)


@torch.no_grad()
def pull_(
    weights: Sequence[Tensor],
    targets: Sequence[Tensor],
    rho: float,
    step: float,
    shares: Sequence[Tensor] | None = None,
) -> None:
    """Take a proximal step on rho/2 * ||W - T||^2, in place; it is stable for every rho.

        W = (W + step * rho * T) / (1 + step * rho)

    Args:
        weights: W, the constrained weights after a step on the task alone; changed in place.
        targets: T = Z - U.
        rho: Penalty parameter.
        step: Step size, >= 0.
        shares: One tensor of 0 and 1 shaped like each weight: the step is taken where it is 1;
            None for everywhere.

    References:
        Parikh and Boyd 2014, doi 10.1561/2400000003, section 6.1.1 (quadratic functions).
    """
    share = step * rho / (1.0 + step * rho)
    same_type = [
        t if t.dtype == w.dtype else t.to(w.dtype) for w, t in zip(weights, targets, strict=True)
    ]
    if shares is None:
        torch._foreach_lerp_(list(weights), same_type, share)
    else:
        torch._foreach_lerp_(list(weights), same_type, torch._foreach_mul(list(shares), share))


def _pieces(*lists: Sequence[Tensor]) -> Iterator[list[list[Tensor]]]:
    """Cut lists of tensors of equal shapes into lists of views, each of at most PIECE scalars.

    Where a single row is longer, it is a piece.
    """
    start = n = 0
    for position, tensor in enumerate(lists[0]):
        size = tensor.numel()
        if n + size > PIECE and position > start:
            yield [list(tensors[start:position]) for tensors in lists]
            start, n = position, 0
        n += size
        if size > PIECE:
            n_rows = max(1, PIECE * len(tensor) // size)
            for views in zip(*(tensors[position].split(n_rows) for tensors in lists), strict=True):
                yield [[view] for view in views]
            start, n = position + 1, 0
    if start < len(lists[0]):
        yield [list(tensors[start:]) for tensors in lists]
