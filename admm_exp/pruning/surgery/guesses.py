"""Attributes that code computes its sizes from: guessed by their values, and proven."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from admm_exp.pruning.dependency.sizes import remembered
from admm_exp.pruning.dependency.traced import Site, Split
from admm_exp.pruning.surgery.groups import PrunableGroup

Proof = Callable[[Sequence[PrunableGroup]], tuple[list[PrunableGroup], dict[str, str]]]
"""Groups -> those that are proven, and the reasons of the others by name."""


def with_guessed_sizes(
    model: nn.Module,
    groups: Sequence[PrunableGroup],
    splits: Mapping[str, Sequence[Split]],
    proof: Proof,
) -> tuple[list[PrunableGroup], dict[str, str]]:
    """Prove groups, those that fail with attributes that may count their channels.

    Args:
        model: The network.
        groups: Groups to be proven.
        splits: Where the channels of every group are taken apart: the code that counts them.
        proof: What proves them.

    Returns:
        As the proof does; no more attributes are taken than the proof needs.
    """
    proven, reasons = proof(groups)
    guesses = {g.name: _guesses(model, g, splits[g.name]) for g in groups if g.name in reasons}
    names = dict.fromkeys(site.tensor for sites in guesses.values() for site in sites)
    if not names:
        return proven, reasons

    def with_(taken: set[str]) -> tuple[list[PrunableGroup], dict[str, str]]:
        sites = {name: [s for s in own if s.tensor in taken] for name, own in guesses.items()}
        return proof([replace(g, sites=(*g.sites, *sites.get(g.name, ()))) for g in groups])

    taken = set(names)
    found = with_(taken)
    if len(found[1]) >= len(reasons):
        return proven, reasons
    for name in names:
        fewer = with_(taken - {name})
        if len(fewer[1]) <= len(found[1]):
            taken, found = taken - {name}, fewer
    return found


def _guesses(model: nn.Module, group: PrunableGroup, splits: Sequence[Split]) -> list[Site]:
    counted = {s.n_rows: s.unit_of for s in group.sites if len(s.rows) == s.n_rows}
    counted[group.n_units] = torch.arange(group.n_units)
    known = {(site.layer, site.tensor) for site in group.sites if site.is_size}
    layers = dict.fromkeys([*(s.name for s in splits), *(s.layer for s in group.sites)])
    layers |= dict.fromkeys(layer.rpartition(".")[0] for layer in [*layers])  # code around them
    return [
        Site(layer, name, 0, False, value, torch.arange(value), counted[value], 1, is_size=True)
        for layer in layers
        for name, value in remembered(model.get_submodule(layer))
        if value in counted and (layer, name) not in known
    ]
