"""One sparsity per channel group, from a default and those a user gave by layer name."""

import difflib
from collections.abc import Mapping

from admm_exp.errors import ConfigError
from admm_exp.pruning.groups import Prunable


def group_sparsities(
    prunable: Prunable, default: float, by_layer: Mapping[str, float]
) -> tuple[float, ...]:
    """Resolve the sparsity of every prunable group.

    Args:
        prunable: Groups of the network.
        default: Sparsity of the groups that `by_layer` does not name, in [0, 1).
        by_layer: Sparsity by the name of any producer of a group.

    Raises:
        ConfigError: If a value is outside [0, 1), a name is unknown or cannot be pruned, or two
            layers of one group ask for different ones.
    """
    for name, value in {"default": default, **by_layer}.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value < 1.0:
            raise ConfigError(f"sparsity of {name} must be a number in [0, 1), got {value!r}")
    _check_names(prunable, by_layer)
    return tuple(_of_group(group.producers, default, by_layer) for group in prunable.groups)


def _of_group(producers: tuple[str, ...], default: float, by_layer: Mapping[str, float]) -> float:
    asked = {name: by_layer[name] for name in producers if name in by_layer}
    if len(set(asked.values())) > 1:
        pairs = ", ".join(f"{name}: {value}" for name, value in asked.items())
        raise ConfigError(f"layers that are tied together need one sparsity, got {pairs}")
    return float(next(iter(asked.values()), default))


def _check_names(prunable: Prunable, by_layer: Mapping[str, float]) -> None:
    known = [name for group in prunable.groups for name in group.producers]
    kept = {name: group.reason for group in prunable.kept for name in group.producers}
    for name in by_layer:
        if name in kept:
            raise ConfigError(f"layer {name} cannot be pruned: {kept[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known layers: {', '.join(known)}"
            raise ConfigError(f"unknown layer {name!r} in the layers file; {hint}")
