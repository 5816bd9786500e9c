"""Rows about what happens between training: the Z and U update, and the cut."""

from collections.abc import Iterator
from functools import partial

from admm_exp.admm.metrics import FPGM, L1Norm, L2Norm, Metric, Random
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.update import update_
from admm_exp.bench.measurement import Actions, Bench, Measurement, Target
from admm_exp.bench.network import subject
from admm_exp.pruning.surgery.surgery import cut

METRICS: dict[str, Metric] = {
    "l2_norm": L2Norm(),
    "l1_norm": L1Norm(),
    "random": Random(seed=0),
    "fpgm": FPGM(),
}
QUICK_METRICS = ("l2_norm", "fpgm")
SLOWEST_FPGM_SECONDS = 1.0
TURN_SECONDS = 0.05


def updates(bench: Bench) -> Iterator[Measurement]:
    """Measure the Z and U update of ResNet-50, residuals and diagnostics included."""
    made = subject("resnet50", 64, 1, bench.device)
    weights, state = made.constrained.weights(), made.constrained.state
    groups = made.constrained.channel_groups
    actions = {
        name: partial(update_, weights, state, ChannelConstraint(groups, metric))
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
    seconds = row.median_seconds("fpgm")
    yield row.with_targets(Target("seconds with fpgm", seconds, SLOWEST_FPGM_SECONDS))


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
