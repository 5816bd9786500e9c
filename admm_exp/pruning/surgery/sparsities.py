"""One sparsity per channel group, from a default and those a user gave by layer name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf

from torch import nn

from admm_exp.errors import ConfigError, ModelError
from admm_exp.pruning.dependency.remembered import STANDARDISES
from admm_exp.pruning.surgery.groups import KeptGroup, Prunable, PrunableGroup

WILDCARDS = "*?["
EXCLUDED = "excluded by"


@dataclass(frozen=True)
class LayerSettings:
    """What a user asks of the layers.

    Args:
        default: Sparsity of the groups that `by_layer` does not name, in [0, 1).
        by_layer: Sparsity by the name of any producer of a group, or by a wildcard for names.
        exclude: Layers to keep whole: names, wildcards, or types as `Linear`.
    """

    default: float
    by_layer: Mapping[str, float]
    exclude: tuple[str, ...] = ()


def without_excluded(prunable: Prunable, model: nn.Module, exclude: Sequence[str]) -> Prunable:
    """Keep the groups whole that hold an excluded layer.

    Args:
        prunable: Groups of the network.
        model: The network, which knows the types of its layers.
        exclude: Names, wildcards for names, or types.

    Raises:
        ConfigError: If an entry matches no layer.
        ModelError: If nothing is left to prune.
    """
    names = [name for group in prunable.groups for name in group.producers]
    names += [name for group in prunable.kept for name in group.producers]
    titles = {name: {name} | _types(model, name) for name in names}
    for pattern in exclude:
        if not any(_matches(titles[name], pattern) for name in names):
            known = sorted({title for name in names for title in titles[name]})
            raise ConfigError(f"exclude: {pattern!r} matches no layer{_hint(pattern, known)}")
    groups: list[PrunableGroup] = []
    kept = list(prunable.kept)
    for group in prunable.groups:
        hits = [
            p for p in exclude if any(_matches(titles[name], p) for name in group.all_producers)
        ]
        if hits:
            reason = f"{EXCLUDED} {hits[0]!r}"
            kept.append(KeptGroup(group.name, group.producers, group.n_units, reason))
        else:
            groups.append(group)
    if not groups:
        raise ModelError(f"exclude: {', '.join(exclude)} leaves nothing to prune")
    return Prunable(tuple(groups), tuple(kept))


def without_streams(prunable: Prunable) -> Prunable:
    """Keep the groups whole that a norm or mean across channels counts: residual streams.

    Args:
        prunable: Groups of a network.

    Raises:
        ModelError: If nothing is left to prune.
    """
    counting = {group.name: _counting(group) for group in prunable.groups}
    groups = tuple(group for group in prunable.groups if counting[group.name] is None)
    kept = tuple(
        KeptGroup(
            group.name,
            group.producers,
            group.n_units,
            f"{EXCLUDED} keep_streams: {counting[group.name]} counts its channels",
        )
        for group in prunable.groups
        if counting[group.name] is not None
    )
    if not groups:
        raise ModelError("keep_streams leaves nothing to prune: norms count all channels")
    return Prunable(groups, prunable.kept + kept)


def _counting(group: PrunableGroup) -> str | None:
    """Name the first layer that counts the channels of a group in a norm or mean, or None."""
    norms = (site for site in group.sites if site.is_count and site.tensor != STANDARDISES)
    layers = (site.layer or "the network itself" for site in norms)
    return next(layers, None)


def group_sparsities(
    prunable: Prunable, default: float, by_layer: Mapping[str, float]
) -> tuple[float, ...]:
    """Resolve the sparsity of every prunable group.

    Of all entries that match a layer of the group the most specific decides: a name before a
    wildcard, then the wildcard with more characters of its own. Equally specific ones must agree.
    A group that is named by a tensor of its layer obeys that name before the layer's.

    Args:
        prunable: Groups of the network.
        default: Sparsity of the groups that `by_layer` does not name, in [0, 1).
        by_layer: Sparsity by the name of any producer of a group, or by a wildcard for names.

    Raises:
        ConfigError: If a value is outside [0, 1), a name is unknown or cannot be pruned, or layers
            of one group ask for different ones.
    """
    for name, value in {"default": default, **by_layer}.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value < 1.0:
            raise ConfigError(f"sparsity of {name} must be a number in [0, 1), got {value!r}")
    for name in by_layer:
        _check_name(name, prunable)
    return tuple(_of_group(group, default, by_layer) for group in prunable.groups)


def _of_group(group: PrunableGroup, default: float, by_layer: Mapping[str, float]) -> float:
    if group.name not in group.producers and group.name in by_layer:
        return float(by_layer[group.name])
    producers = group.all_producers
    asked = [name for name in by_layer if _matches(producers, name)]
    best = max(map(_specificity, asked), default=0)
    decisive = {name: by_layer[name] for name in asked if _specificity(name) == best}
    if len(set(decisive.values())) > 1:
        pairs = ", ".join(f"{name}: {value}" for name, value in decisive.items())
        raise ConfigError(
            f"layers that are tied together ({', '.join(producers)}) need one sparsity, got {pairs}"
        )
    return float(next(iter(decisive.values()), default))


def _specificity(name: str) -> float:
    return sum(c not in WILDCARDS for c in name) if _is_wildcard(name) else inf


def _is_wildcard(name: str) -> bool:
    return any(c in name for c in WILDCARDS)


def _matches(names: Sequence[str] | set[str], pattern: str) -> bool:
    if not _is_wildcard(pattern):
        return pattern in names
    return any(fnmatchcase(name, pattern) for name in names)


def _types(model: nn.Module, name: str) -> set[str]:
    layers = dict(model.named_modules())  # a parameter of the network itself is none of them
    kinds = type(layers.get(name)).__mro__
    return {kind.__name__ for kind in kinds if issubclass(kind, nn.Module)} - {"Module"}


def _check_name(name: str, prunable: Prunable) -> None:
    named = [name for group in prunable.groups for name in (group.name, *group.producers)]
    known = list(dict.fromkeys(named))
    kept = {
        name: group.reason for group in prunable.kept for name in (group.name, *group.producers)
    }
    if _matches(known, name):
        return
    for layer, reason in kept.items():
        if _matches([layer], name):
            if reason.startswith(EXCLUDED):  # a written file lists what its user then excludes
                return
            raise ConfigError(f"layer {layer} cannot be pruned: {reason}")
    if _is_wildcard(name):
        raise ConfigError(f"{name!r} in the layers file matches no layer{_hint(name, known)}")
    raise ConfigError(f"unknown layer {name!r} in the layers file{_hint(name, known)}")


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known layers: {', '.join(known)}"
