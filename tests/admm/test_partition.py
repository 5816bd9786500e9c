"""Every granularity against a search over all supports, its units listed index by index."""

from itertools import combinations, product

import pytest
import torch

from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import FPGM, L1Norm, L2Norm, Random
from admm_exp.admm.partition import Layer, PartitionConstraint
from admm_exp.admm.partitions.block import Block
from admm_exp.admm.partitions.element import Element
from admm_exp.admm.partitions.filter import Filter
from admm_exp.admm.partitions.kernel import Kernel
from admm_exp.admm.partitions.n_of_m import NOfM
from admm_exp.admm.partitions.shape import Shape
from admm_exp.admm.state import initial_state, split
from admm_exp.admm.update import update


def elements(o, i, k):
    return [[[(a, b, c)] for a in range(o) for b in range(i) for c in range(k)]]


def twos(o, i, k):
    return [
        [[(a, b, c)], [(a, b + 1, c)]] for a in range(o) for c in range(k) for b in range(0, i, 2)
    ]


def fours(o, i, k):
    return [
        [[(a, b + d, c)] for d in range(4)]
        for a in range(o)
        for c in range(k)
        for b in range(0, i, 4)
    ]


def blocks(o, i, k):
    corners = [(a, b, c) for a in range(0, o, 2) for b in range(0, i, 3) for c in range(k)]
    return [[[(a + d, b + e, c) for d in range(2) for e in range(3)] for a, b, c in corners]]


def kernels(o, i, k):
    return [[[(a, b, c) for c in range(k)] for a in range(o) for b in range(i)]]


def columns(o, i, k):
    return [[[(a, b, c) for a in range(o)] for b in range(i) for c in range(k)]]


def filters(o, i, k):
    return [[[(a, b, c) for b in range(i) for c in range(k)] for a in range(o)]]


# granularity, its units in blocks as index lists, shape of the weight
CASES = {
    "element": (Element(), elements, (2, 3, 2)),
    "element_linear": (Element(), elements, (3, 4)),
    "2_of_4": (NOfM(4), fours, (1, 4, 2)),
    "2_of_4_linear": (NOfM(4), fours, (2, 4)),
    "1_of_2": (NOfM(2), twos, (2, 2, 2)),
    "block": (Block(2, 3), blocks, (4, 6, 2)),
    "block_linear": (Block(2, 3), blocks, (6, 6)),
    "kernel": (Kernel(), kernels, (3, 3, 2)),
    "shape": (Shape(), columns, (3, 4, 2)),
    "shape_linear": (Shape(), columns, (3, 5)),
    "filter": (Filter(), filters, (6, 2, 2)),
    "filter_linear": (Filter(), filters, (5, 2)),
}
each = pytest.mark.parametrize("case", CASES)
METRICS = (L2Norm(), L1Norm(), Random(3))


def weight_of(case, seed=0):
    return torch.randn(CASES[case][2], generator=torch.Generator().manual_seed(seed))


def units_of(case):
    _, list_units, shape = CASES[case]
    return list_units(*shape, *([1] if len(shape) == 2 else []))


def constrain(case, metric=None, sparsity=0.5, dim=0):
    partition, _, shape = CASES[case]
    n_units, n_blocks = sum(map(len, units_of(case))), partition.count_blocks(shape)
    layer = Layer("fc", n_units, count_kept(n_units, sparsity, n_blocks), n_blocks, dim=dim)
    return PartitionConstraint(partition, (layer,), metric or L2Norm())


def zeroed(case, weight, dropped):
    """Set the listed units to zero in a copy, one scalar at a time."""
    result = weight.clone().view(*weight.shape[:2], -1)
    for index in [index for unit in dropped for index in unit]:
        result[index] = 0.0
    return result.view(weight.shape)


def candidates(case, sparsity):
    """List the weights that every allowed support leaves."""
    per_block = []
    for units in units_of(case):
        n_dropped = len(units) - count_kept(len(units), sparsity)
        per_block.append(list(combinations(units, n_dropped)))
    for chosen in product(*per_block):
        yield [unit for dropped in chosen for unit in dropped]


def projected(constraint, weight):
    (mask,) = constraint.masks([weight], constraint.select([weight]))
    assert mask.dtype == torch.bool
    return weight * mask


@each
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.75])
def test_l2_selection_is_the_nearest_of_all_supports(case, sparsity):
    for seed in range(3):
        weight = weight_of(case, seed).double()
        allowed = [zeroed(case, weight, dropped) for dropped in candidates(case, sparsity)]
        best = min(allowed, key=lambda z: float((weight - z).norm()))
        assert torch.equal(projected(constrain(case, sparsity=sparsity), weight), best)


@each
@pytest.mark.parametrize("metric", METRICS, ids=lambda m: type(m).__name__)
def test_what_a_metric_selects_is_one_of_the_supports_and_never_nearer(case, metric):
    weight = weight_of(case)
    found = projected(constrain(case, metric), weight)
    assert any(torch.equal(found, zeroed(case, weight, d)) for d in candidates(case, 0.5))
    nearest = projected(constrain(case, L2Norm()), weight)
    assert float((weight - nearest).norm()) <= float((weight - found).norm())


@each
def test_units_hold_the_scalars_that_were_listed(case):
    partition, _, shape = CASES[case]
    weight = torch.arange(weight_of(case).numel()).view(shape)
    flat = weight.view(*shape[:2], -1)
    listed = [sorted(int(flat[i]) for i in unit) for block in units_of(case) for unit in block]
    assert [sorted(row) for row in partition.units(weight).tolist()] == listed


@each
def test_transposed_weights_are_divided_along_their_outputs(case):
    weight = weight_of(case)
    plain = projected(constrain(case), weight)
    turned = projected(constrain(case, dim=1), weight.transpose(0, 1).contiguous())
    assert torch.equal(turned.transpose(0, 1), plain)


@each
def test_random_units_stay_the_same_whatever_the_weights(case):
    constraint = constrain(case, Random(3))
    first, second = (constraint.select([weight_of(case, seed)])[0] for seed in (0, 1))
    assert torch.equal(first, second)
    others = [constrain(case, Random(s)).select([weight_of(case)])[0] for s in range(4, 9)]
    assert any(not torch.equal(first, other) for other in others)


@each
def test_exact_w_steps_on_a_quadratic_converge_to_the_projection(case):
    B = weight_of(case)  # f(W) = 1/2 ||W - B||^2
    constraint = constrain(case)
    state = initial_state([B], constraint, 1.0)
    for _ in range(60):
        W = (B + state.targets[0]) / 2
        state, residuals = update([W], state, constraint)
    assert residuals.is_converged
    torch.testing.assert_close(split(state, constraint)[0][0], projected(constraint, B))
    assert state.targets[0].shape == B.shape


def test_fpgm_ranks_filters_by_their_distances_and_keeps_the_outlier():
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-0.5, 0.0]])
    constraint = PartitionConstraint(Filter(), (Layer("fc", 4, 1),), FPGM())
    assert constraint.select([weight])[0].tolist() == [False, False, False, True]


@pytest.mark.parametrize("partition", [Element(), NOfM(4), Block(2, 2), Kernel()])
def test_fpgm_is_refused_where_distances_say_nothing(partition):
    sentence = f"fpgm ranks units by .* granularity {partition.name}: take l2_norm, l1_norm or"
    with pytest.raises(ValueError, match=sentence):
        PartitionConstraint(partition, (), FPGM())


@pytest.mark.parametrize(
    ("partition", "shape", "reason"),
    [
        (NOfM(4), (8, 6, 3, 3), "its 6 inputs are no multiple of 4"),
        (Block(4, 2), (6, 4), "its 6 x 4 matrix does not divide into blocks of 4 x 2"),
        (Block(2, 4), (6, 6), "its 6 x 6 matrix does not divide into blocks of 2 x 4"),
        (Kernel(), (8, 4, 1, 1), "its kernels are single weights"),
        (Kernel(), (8, 4), "its kernels are single weights"),
        (NOfM(4), (6, 8), None),
        (Block(3, 2), (6, 4, 3), None),
        (Kernel(), (8, 4, 1, 3), None),
        (Element(), (1, 1), None),
        (Shape(), (1, 1), None),
        (Filter(), (1, 1), None),
    ],
)
def test_a_weight_that_cannot_be_divided_says_why(partition, shape, reason):
    assert partition.obstacle(shape) == reason


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: NOfM(1), "m must be at least 2, got 1"),
        (lambda: Block(0, 4), "rows must be at least 1, got 0"),
        (lambda: Block(4, 0), "columns must be at least 1, got 0"),
        (lambda: Layer("fc", 4, 5), r"fc: n_kept must be in \[1, 4\], got 5"),
        (lambda: Layer("fc", 8, 3, n_blocks=2), "fc: 8 units and 3 kept must both divide"),
    ],
)
def test_impossible_numbers_are_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_energies_of_a_layer_are_the_squares_of_its_units():
    weight = torch.arange(12.0).reshape(2, 6)
    constraint = PartitionConstraint(Block(2, 3), (Layer("fc", 2, 1),), L2Norm())
    (energies,) = constraint.energies([weight])
    assert energies.tolist() == [0 + 1 + 4 + 36 + 49 + 64, 9 + 16 + 25 + 81 + 100 + 121]
