"""The table of the support matrix."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median

DEEP = 0.2
"""Fraction of the MACs below which a network counts as hardly pruned."""


@dataclass(frozen=True)
class Examined:
    """What happened to one network.

    Args:
        network: Torchvision's name.
        result: `ok`, or one sentence.
        pixels: Height and width of the input.
        layers_left_out: Repeated blocks left out to fit into memory.
        groups: Groups that were pruned.
        kept: Groups that stayed whole, without the classes.
        params: Parameters before.
        params_left: Parameters of the cut network as a fraction of that.
        macs: Multiply-accumulates for one image before.
        macs_removed: The fraction of them that the cut removes.
        difference: Masked against cut network, relative to the spread of the outputs.
        plan_seconds: Processor time to find the groups.
        total_seconds: Processor time of everything.
        kept_whole: What stayed whole, and why, without the classes.
    """

    network: str
    result: str
    pixels: int = 0
    layers_left_out: int = 0
    groups: int = 0
    kept: int = 0
    params: int = 0
    params_left: float = 0.0
    macs: int = 0
    macs_removed: float = 0.0
    difference: float = 0.0
    plan_seconds: float = 0.0
    total_seconds: float = 0.0
    kept_whole: str = ""


def as_markdown(rows: Sequence[Examined], origin: str = "") -> str:
    """Write the rows as a table, with a line of counts above it; what fails had a traceback.

    Args:
        rows: A row for every network.
        origin: What was run, when and on which code, to stand below the counts.
    """
    kinds = [row.result.split(":")[0] for row in rows]
    counts = ", ".join(
        f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(["ok", "wrong", "fails", *kinds])
    )
    removed = sorted(row.macs_removed for row in rows)
    deep = sum(fraction >= DEEP for fraction in removed)
    slowest = max(rows, key=lambda row: row.total_seconds)
    headline = (
        f"{len(rows)} networks: {counts}; {deep} lose at least {100 * DEEP:.0f} % of their MACs, "
        f"the median {100 * median(removed):.0f} %; the slowest is {slowest.network} with "
        f"{slowest.total_seconds:.0f} s."
    )
    names = [field.name.replace("_", " ") for field in fields(Examined)]
    above = [headline, "", *([origin, ""] if origin else [])]
    lines = [*above, _line(names), _line(["---"] * len(names))]
    return "\n".join(lines + [as_line(row) for row in rows]) + "\n"


def as_line(row: Examined) -> str:
    """Write the line of one network."""
    return _line(_cells(row))


def _cells(row: Examined) -> Iterable[str]:
    for field in fields(Examined):
        value = getattr(row, field.name)
        if field.name == "difference":
            yield f"{value:.0e}"
        elif isinstance(value, float):
            yield f"{value:.2f}"
        else:
            yield f"{value:,}" if isinstance(value, int) else value.replace("|", "/")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
