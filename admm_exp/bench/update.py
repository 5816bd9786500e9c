"""Rows about what happens between training: the Z and U update, and the cut."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import FPGM, L1Norm, L2Norm, Metric, Random
from admm_exp.admm.projection import ChannelConstraint, best_of
from admm_exp.admm.state import initial_state
from admm_exp.admm.update import update_
from admm_exp.bench.measurement import Actions, Bench, Measurement, Target
from admm_exp.bench.network import subject
from admm_exp.bench.rival import cut_by_rival, rival_name
from admm_exp.models.torchvision_zoo import torchvision_model
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.surgery import cut

METRICS: dict[str, Metric] = {
    "l2_norm": L2Norm(),
    "l1_norm": L1Norm(),
    "random": Random(seed=0),
    "fpgm": FPGM(),
}
QUICK_METRICS = ("l2_norm", "l1_norm", "fpgm")
PULLED = 1e-3
"""What a W-step has left of the units to be removed."""
SLOWEST_FPGM_SECONDS, TIMES_LIMIT = 0.3, 3.0
TRACED, DEPTHS = (("resnet50", 224), ("vit_b_16", 224)), (20, 100, 500)
SLOWEST_TRACE = {"resnet50": 1.1, "vit_b_16": 2.3}
LEVEL, N_CLASSES = 1.0, 1000
WHOLE_CUT = "trace, proof and cut"
TURN_SECONDS, ONE_CALL = 0.05, 1e-3
"""A turn of many calls, and of one after two calls that warm it up: first calls import."""


def updates(bench: Bench) -> Iterator[Measurement]:
    """Measure the Z and U update of ResNet-50, residuals and diagnostics included."""
    made = subject("resnet50", 64, 1, bench.device)
    weights, groups = made.constrained.weights(), made.constrained.channel_groups
    masks = made.constrained.constraint.masks(weights, made.constrained.state.support)
    for weight, kept in zip(weights, masks, strict=True):
        weight.mul_(torch.where(kept, 1.0, PULLED))
    actions = {
        name: _updating(weights, ChannelConstraint(groups, metric))
        for name, metric in METRICS.items()
        if name in QUICK_METRICS or not bench.is_quick
    }
    row = Measurement(
        "update",
        f"Z and U update, resnet50, {made.n_constrained:,} weights",
        bench.take_turns(actions, TURN_SECONDS),
        bench.machine.seconds_for_bytes(12 * made.n_constrained),
        "12 bytes a weight: W and T read, T written",
    )
    yield row.with_targets(
        *(
            Target(f"{name}, times 12 bytes a weight", row.times_limit(name) or 0.0, TIMES_LIMIT)
            for name in ("l2_norm", "l1_norm")
            if name in actions
        ),
        Target("seconds with fpgm", row.median_seconds("fpgm"), SLOWEST_FPGM_SECONDS),
    )


def _updating(weights: Sequence[Tensor], constraint: ChannelConstraint) -> Callable[[], None]:
    """Do one update after the other, as a run does between its W-steps."""
    states = [initial_state(weights, constraint, rho=0.1)]

    def once() -> None:
        states.append(update_(weights, states.pop(), constraint)[0])

    return once


def traces(bench: Bench) -> Iterator[Measurement]:
    """Measure finding the groups of a network and proving them, and how that grows with depth."""
    for name, size in TRACED:
        torch.manual_seed(0)
        model = torchvision_model(name, N_CLASSES).eval()
        yield _traced(bench, name, model, torch.randn(1, 3, size, size))
    n_layers = DEPTHS[:-1] if bench.is_quick else DEPTHS
    yield Measurement(
        "trace_depth",
        "find and prove the channel groups of a chain of layers",
        bench.take_turns(
            {f"{n} layers": partial(find_groups, _chain(n), torch.randn(1, 64)) for n in n_layers},
            ONE_CALL,
        ),
    )


def _traced(bench: Bench, name: str, model: nn.Module, image: Tensor) -> Measurement:
    """Measure trace, proof and cut of a network, beside Torch-Pruning in turns if it is there."""
    rival = rival_name()
    theirs = {rival: partial(cut_by_rival, model, image, N_CLASSES)} if rival else {}
    row = Measurement(
        f"trace_{name}",
        f"find, prove and cut the channel groups of {name}, {image.shape[-1]}x{image.shape[-1]}",
        bench.take_turns(theirs | {WHOLE_CUT: partial(_found_and_cut, model, image)}, ONE_CALL),
    )
    slowest = Target("seconds", row.median_seconds(WHOLE_CUT), SLOWEST_TRACE[name])
    if rival is None:
        return row.with_targets(slowest).with_notes({"Torch-Pruning": "not installed"})
    return row.with_targets(
        slowest, Target("times Torch-Pruning, which proves nothing,", row.ratio(WHOLE_CUT), LEVEL)
    )


def _found_and_cut(model: nn.Module, image: Tensor) -> nn.Module:
    groups = find_groups(model, image).groups
    kept = [count_kept(group.n_units, 0.5, group.n_blocks) for group in groups]
    scores = [torch.arange(group.n_units) % (group.n_units // group.n_blocks) for group in groups]
    support = best_of([-s.float() for s in scores], kept, [group.n_blocks for group in groups])
    return cut(model, groups, support)


def _chain(n: int) -> nn.Module:
    layers = [layer for _ in range(n) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def cuts(bench: Bench) -> Iterator[Measurement]:
    """Measure a cut at sparsity 0.5, and its proof on a batch."""
    made = subject("resnet18" if bench.is_quick else "resnet50", 64, 8, bench.device)
    constrained = made.constrained
    masked = constrained.removal().masked()
    support = constrained.state.support
    small = cut(masked, constrained.groups, support)
    n_small = sum(parameter.numel() for parameter in small.parameters())
    actions: Actions = {
        "channels removed": partial(cut, masked, constrained.groups, support),
        "masked, removed and compared": partial(constrained.removal().finish, made.images),
    }
    yield Measurement(
        "cut",
        f"remove half of the channels, {made.name}",
        bench.take_turns(actions, TURN_SECONDS),
        bench.machine.seconds_for_bytes(8 * n_small),
        "what stays, read and written once",
    )
