"""One ADMM iteration, scaled form: the Z- and U-step, and the penalty of the W-step."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from admm_exp.admm.batch import batched, by_batch, by_group
from admm_exp.admm.convergence import Residuals
from admm_exp.admm.metrics import ranks_by_energy
from admm_exp.admm.passes import OnePass, Passes, TwoPasses
from admm_exp.admm.pieces import pieces_of
from admm_exp.admm.projection import Constraint, best_units
from admm_exp.admm.residuals import Changes, measure
from admm_exp.admm.state import State, squares_of


@torch.no_grad()
def update(
    weights: Sequence[Tensor],
    state: State,
    constraint: Constraint,
    relaxation: float = 1.0,
    *,
    dual_step: float = 1.0,
    is_frozen: bool = False,
) -> tuple[State, Residuals]:
    """Do the Z-step and the U-step after a W-step; the old state stays as it is.

    See `update_`, which spares the copy of T.
    """
    targets = tuple(target.clone() for target in state.targets)
    copied = replace(state, targets=targets, squares=None)
    return update_(
        weights, copied, constraint, relaxation, dual_step=dual_step, is_frozen=is_frozen
    )


@torch.no_grad()
def update_(
    weights: Sequence[Tensor],
    state: State,
    constraint: Constraint,
    relaxation: float = 1.0,
    *,
    dual_step: float = 1.0,
    is_frozen: bool = False,
    follows: bool = False,
) -> tuple[State, Residuals]:
    """Do the Z-step and the U-step after a W-step, in the memory of the old state.

        X = a*W + (1-a)*Z_old + U,   Z = X on the kept units, 0 elsewhere,   U = X - Z

    A dual step c below 1 takes less of what the W-step left: U = U + c * (X - U) where Z = 0.

    Where X = W + U one pass over W and T yields the sums of squares that choose the support and
    are the residuals, and turns T into the new one. No tensor is as large as the largest weight,
    except where the metric wants to see a whole group.

    Args:
        weights: W, the constrained weights after the W-step.
        state: T, support and rho of the iteration before; T is overwritten.
        constraint: Groups and metric.
        relaxation: A, over-relaxation in (0, 2); 1 is none.
        dual_step: C, in [0, 1]; 1 is Boyd's.
        is_frozen: Keep the support instead of choosing it anew.
        follows: Whether Z_old of the kept units followed W, see `admm_exp.admm.state.following`.

    Returns:
        The new state and Boyd's residuals with the diagnostics of the iteration; its tensors are
        float32 and alias no weight.

    References:
        Boyd et al. 2011, sections 3.1.1 and 3.4.3; Zhang et al. 2018, arXiv 1804.03294.

    Raises:
        ValueError: If relaxation is outside (0, 2), the dual step outside [0, 1], or a weight holds
            NaN, which T then holds too.

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
    if not 0.0 <= dual_step <= 1.0:
        raise ValueError(f"dual_step must be in [0, 1], got {dual_step}")
    W, T = [weight.detach() for weight in weights], state.targets
    passes: Passes
    if relaxation == dual_step == 1.0:
        passes = OnePass(W, T, constraint, state.support, state.known_squares())
    else:
        passes = TwoPasses(W, T, constraint, dual_step)
    batches = batched(passes.energies, state.support, relaxation, follows)
    x = [batch.x() for batch in batches]
    nearest = best_units(by_group(batches, x), constraint.groups)
    support = nearest
    if is_frozen:
        support = state.support
    elif not ranks_by_energy(constraint.metric):
        support = passes.select(batches)
    u = x if dual_step == 1.0 else [batch.u(dual_step) for batch in batches]
    chosen = (by_batch(batches, own) for own in (support, nearest))
    changes = map(Changes, batches, x, u, *chosen)
    residuals = measure(list(changes), constraint.groups, state.rho, sum(w.numel() for w in W))
    passes.write(batches, support)
    targets = (*T,)  # another tuple: who keeps what depends on T sees that it changed
    squares = squares_of(targets, passes.squares)
    done = state.iteration + 1
    return State(targets, support, state.rho, done, state.support, squares), residuals


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
    for G, W, T, *rest in pieces_of(*lists):  # the cache holds G for the second pass
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
    if shares is not None and shares[0].is_cpu:
        for w, t, spread in zip(weights, targets, shares, strict=True):
            w.lerp_(t.to(w.dtype), _unexpanded(spread) * share)
        return
    is_mixed = any(t.dtype != w.dtype for w, t in zip(weights, targets, strict=True))
    lists = list(weights), list(targets)
    for W, T in pieces_of(*lists) if is_mixed else (lists,):
        same_type = [t.to(w.dtype) for w, t in zip(W, T, strict=True)]
        if shares is None:
            torch._foreach_lerp_(W, same_type, share)
        else:  # on a GPU, which gets all at once
            torch._foreach_lerp_(W, same_type, torch._foreach_mul(list(shares), share))


def _unexpanded(tensor: Tensor) -> Tensor:
    """View a tensor with the entries once that it was expanded from."""
    return tensor[tuple(slice(1) if n == 0 else slice(None) for n in tensor.stride())]
