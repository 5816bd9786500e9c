"""How channels go through weights that a convolution standardises before it uses them.

Every row of such a weight, all that one output channel reads, gets mean 0 and variance 1. A row of
zeros stays zero. A removed input multiplies nothing, but its column still counts in mean and
variance: the layer remembers what it added to both (`remembered.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import zeroed
from admm_exp.pruning.dependency.remembered import STANDARDISES
from admm_exp.pruning.dependency.rows import Rows

VIEWS = ("view", "_unsafe_view", "reshape")


@dataclass(frozen=True)
class WeightRows:
    """The rows of a convolution's weight, in another shape.

    Args:
        weight: The parameter.
        is_standardised: Whether they already have mean 0 and variance 1.
        scale: (n_rows,) codes of what scales them, or None.
    """

    weight: Tensor
    is_standardised: bool = False
    scale: Tensor | None = None


def note_rows(flow: Flow, name: str, args: Sequence[Any], outputs: Any) -> bool:
    """Note that an operation wrote each row of a weight as one line, or back.

    Returns:
        Whether that is what it did.
    """
    if name not in VIEWS or not isinstance(args[0], Tensor):
        return False
    known = flow.weight_rows.get(args[0])
    if known is not None and (known.is_standardised or outputs.shape == args[0].shape):
        flow.weight_rows[outputs] = known
        return True
    weight = args[0]
    if not (weight.dim() > 2 and flow.is_parameter(weight) and _is_of_convolution(flow, weight)):
        return False
    if outputs.shape != (1, len(weight), weight[0].numel()):
        return False
    flow.weight_rows[outputs] = WeightRows(weight)
    return True


def _is_of_convolution(flow: Flow, weight: Tensor) -> bool:
    module: Any = flow.model.get_submodule(flow.running[-1])
    is_plain = isinstance(module, nn.modules.conv._ConvNd) and not module.transposed
    return is_plain and module.weight is weight


def standardise(flow: Flow, inputs: Tensor, outputs: Tensor, scale: Any, shift: Any) -> bool:
    """Note that a batch norm standardised the rows of a weight.

    Returns:
        Whether that is what it did.
    """
    known = flow.weight_rows.get(inputs)
    if known is None or known.is_standardised or shift is not None:
        return False
    codes = None if scale is None else flow.along(scale, 0)
    flow.weight_rows[outputs] = WeightRows(known.weight, True, codes)
    return True


def standardised(flow: Flow, weight: Any) -> WeightRows | None:
    """Find out whether a weight is a parameter whose rows were standardised."""
    known: WeightRows | None = flow.weight_rows.get(weight) if isinstance(weight, Tensor) else None
    is_whole = known is not None and known.is_standardised and known.weight.shape == weight.shape
    return known if is_whole else None


def remember_columns(flow: Flow, codes: Tensor | None, groups: int) -> None:
    """Note that the running layer has to remember what removed columns added to its moments."""
    if codes is not None and len(codes) > groups:
        rows = Rows(flow.running[-1], STANDARDISES, -1, zeroed(codes), False, groups, is_count=True)
        flow.add_rows(rows)


def tie_scale(flow: Flow, outputs: Tensor, rows: WeightRows) -> Tensor:
    """Tie what scales the rows of a weight to the channels that they make."""
    codes = flow.along(outputs, 1 - rows.weight.dim())
    if rows.scale is not None and codes is not None:
        flow.labels.unite(codes, rows.scale)
    return outputs
