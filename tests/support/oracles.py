"""Slow second implementations of the ADMM equations: loops over rows, all supports, float64."""

from itertools import combinations, product

import torch

from admm_exp.admm.groups import ChannelGroup, Member

INTERLEAVED = torch.tensor([[0, 5], [2, 7], [4, 1], [6, 3]])


def tied_weights(seed=0):
    """Draw five weights: rows, columns, two rows a unit, a norm over a concatenation, rows."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (2, 4), (8, 2), (7,), (3, 2, 2)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def tied_groups():
    """Tie them into four units, of which two stay, one per block, and three, of which one does."""
    norm = torch.arange(7).unsqueeze(1)
    first = (Member(0, 0), Member(1, 1), Member(2, 0, INTERLEAVED), Member(3, 0, norm[:4]))
    second = (Member(4, 0), Member(3, 0, norm[4:]))
    return (
        ChannelGroup("first", 4, 2, first, n_blocks=2),
        ChannelGroup("second", 3, 1, second, position=1),
    )


def supports_of(group):
    """List every support with the same number of kept units in each block."""
    size, n_kept = group.n_units // group.n_blocks, group.n_kept // group.n_blocks
    of_a_block = [[i in kept for i in range(size)] for kept in combinations(range(size), n_kept)]
    for blocks in product(of_a_block, repeat=group.n_blocks):
        yield torch.tensor([is_kept for block in blocks for is_kept in block])


def zeroed(weights, groups, support):
    """Set the removed units to zero in copies of the weights, row by row."""
    result = [weight.clone() for weight in weights]
    for group, kept in zip(groups, support, strict=True):
        for member, unit in product(group.members, range(group.n_units)):
            rows = [unit] if member.rows is None else member.rows[unit].tolist()
            for row in rows:
                result[member.weight].select(member.dim, row).mul_(float(kept[unit]))
    return result


def norm(tensors):
    """Take the Euclidean norm of all scalars together, in float64."""
    return float(torch.cat([t.detach().double().flatten() for t in tensors]).norm())


def minus(left, right):
    return [a - b for a, b in zip(left, right, strict=True)]


def nearest_support(weights, groups):
    """Try every combination of supports and take the one that leaves the nearest point."""
    weights = [weight.double() for weight in weights]
    candidates = product(*(list(supports_of(group)) for group in groups))
    return min(candidates, key=lambda s: norm(minus(weights, zeroed(weights, groups, s))))


def admm_iteration(W, Z, U, groups, relaxation=1.0):
    """Do one Z- and U-step with Z and U apart, as Boyd et al. write them."""
    a = relaxation
    X = [a * w.detach().double() + (1 - a) * z + u for w, z, u in zip(W, Z, U, strict=True)]
    Z = zeroed(X, groups, nearest_support(X, groups))
    return Z, minus(X, Z)
