"""What ADMM remembers between iterations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from admm_exp.admm.projection import Constraint


@dataclass(frozen=True)
class Squares:
    """||T||^2 of every row, which the update that wrote T has summed up.

    Args:
        values: (n_rows,) over all weights, in the order of whoever summed them up.
        targets: The T that they are of.
        versions: How often each T had been written.
    """

    values: Tensor
    targets: tuple[Tensor, ...]
    versions: tuple[int, ...]


def squares_of(targets: tuple[Tensor, ...], values: Tensor | None) -> Squares | None:
    """Note what the squares of T are, where torch counts who writes T."""
    if values is None or any(target.is_inference() for target in targets):
        return None
    return Squares(values, targets, tuple(target._version for target in targets))


@dataclass(frozen=True)
class State:
    """Z and U in one tensor per constrained weight.

    On the kept units U is 0, elsewhere Z is 0, so T = Z - U holds both: Z = T on the kept units,
    U = -T on the others. The W-step needs T alone.

    Args:
        targets: T, float32, one tensor shaped like each constrained weight.
        support: (n_units,) bool per group, True = kept.
        rho: Penalty parameter, > 0.
        iteration: Number of Z/U updates done.
        earlier: Support of the iteration before; all units before the first update.
        squares: ||T||^2 of every row, if the last update has noted it.
    """

    targets: tuple[Tensor, ...]
    support: tuple[Tensor, ...]
    rho: float
    iteration: int = 0
    earlier: tuple[Tensor, ...] = ()
    squares: Squares | None = field(default=None, compare=False, repr=False)

    def known_squares(self) -> Tensor | None:
        """Give ||T||^2 of every row, or None where nobody knows or T was written since."""
        known = self.squares
        if known is None or known.targets is not self.targets:
            return None
        is_same = known.versions == tuple(target._version for target in self.targets)
        return known.values if is_same else None


@torch.no_grad()
def initial_state(weights: Sequence[Tensor], constraint: Constraint, rho: float) -> State:
    """Start at Z = projection of W and U = 0.

    Raises:
        ValueError: If rho is not positive.
    """
    if not rho > 0.0:
        raise ValueError(f"rho must be greater than 0, got {rho}")
    W = [weight.detach().float() for weight in weights]
    support = constraint.select(W)
    masks = constraint.masks(W, support)
    targets = tuple(w * m for w, m in zip(W, masks, strict=True))
    return State(targets, support, float(rho), earlier=tuple(map(torch.ones_like, support)))


def split(state: State, constraint: Constraint) -> tuple[list[Tensor], list[Tensor]]:
    """Write Z and U out as new tensors, for tests, notebooks and diagnostics."""
    masks = constraint.masks(state.targets, state.support)
    pairs = list(zip(state.targets, masks, strict=True))
    return [t * m for t, m in pairs], [-t * ~m for t, m in pairs]


@torch.no_grad()
def following(state: State, weights: Sequence[Tensor], constraint: Constraint) -> State:
    """Let Z of the kept units be W, where the augmented Lagrangian is smallest; U is 0 there."""
    shares = constraint.spread(state.targets, [kept.float() for kept in state.support])
    triples = zip(shares, weights, state.targets, strict=True)
    targets = tuple(t.lerp(w.detach().float(), share) for share, w, t in triples)
    return replace(state, targets=targets, squares=None)


@torch.no_grad()
def with_rho(state: State, constraint: Constraint, rho: float) -> State:
    """Change the penalty parameter and keep the unscaled dual y = rho * U; the old state stays.

    See `with_rho_`, which spares the copy of T.
    """
    if rho == state.rho:
        return state
    targets = tuple(target.clone() for target in state.targets)
    return with_rho_(replace(state, targets=targets, squares=None), constraint, rho)


@torch.no_grad()
def with_rho_(state: State, constraint: Constraint, rho: float) -> State:
    """Change the penalty parameter in the memory of the old state, and keep y = rho * U.

    References:
        Boyd et al. 2011, section 3.4.1.

    Raises:
        ValueError: If rho is not positive.
    """
    if not rho > 0.0:
        raise ValueError(f"rho must be greater than 0, got {rho}")
    if rho == state.rho:
        return state
    ratio = state.rho / rho
    factors = [torch.full_like(kept, ratio, dtype=torch.float32) for kept in state.support]
    factors = [f.masked_fill_(kept, 1.0) for f, kept in zip(factors, state.support, strict=True)]
    spread = constraint.spread(state.targets, factors)
    for target, factor in zip(state.targets, spread, strict=True):
        target.mul_(factor)
    targets = (*state.targets,)  # another tuple: who keeps what depends on T sees that it changed
    return replace(state, targets=targets, rho=float(rho), squares=None)


def to_tensors(state: State) -> dict[str, Tensor]:
    """Flatten the state into named tensors, for a checkpoint without pickle."""
    named = {f"targets.{i}": t for i, t in enumerate(state.targets)}
    named |= {f"support.{i}": s for i, s in enumerate(state.support)}
    named |= {f"earlier.{i}": s for i, s in enumerate(state.earlier)}
    named["rho"] = torch.tensor(state.rho, dtype=torch.float64)
    named["iteration"] = torch.tensor(state.iteration)
    return named


def from_tensors(named: Mapping[str, Tensor]) -> State:
    """Rebuild the state that `to_tensors` flattened."""

    def sequence(prefix: str) -> tuple[Tensor, ...]:
        count = sum(name.startswith(prefix + ".") for name in named)
        return tuple(named[f"{prefix}.{i}"] for i in range(count))

    rho, iteration = float(named["rho"]), int(named["iteration"])
    return State(sequence("targets"), sequence("support"), rho, iteration, sequence("earlier"))
