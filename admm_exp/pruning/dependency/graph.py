"""The channel groups of a network, read off its flow of labels."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import lcm
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from admm_exp.errors import AdmmExpError, ModelError
from admm_exp.pruning.dependency.checks import first_line, not_accepted
from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.forward import follow
from admm_exp.pruning.dependency.labels import label_of
from admm_exp.pruning.dependency.operation_rules import operation
from admm_exp.pruning.dependency.rules import LAYER_RULES
from admm_exp.pruning.dependency.traced import NOWHERE, Site, Split, TracedGroup
from admm_exp.pruning.network.inputs import call

T = TypeVar("T")


def trace_groups(
    model: nn.Module, example_input: Any, alternatives: frozenset[str] = frozenset()
) -> list[TracedGroup]:
    """Find the channel groups of a network.

    Labels run beside the numbers, one per channel that a layer makes: operations that move
    entries move labels, element-wise ones unite them, layers read and make them. Layers that run
    in training mode alone (auxiliary heads) are seen in a second pass.

    Args:
        model: The network; left in the mode and with the buffers it had.
        example_input: Inputs that the network accepts.
        alternatives: Layers whose reshapes keep channels apart along another dimension than the
            usual one.

    Raises:
        ModelError: If the network does not accept the example input or cannot be followed.
    """
    with _untouched(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow = Flow(model, alternatives)
        try:
            follow(flow, example_input, LAYER_RULES, operation)
        except Exception as error:  # whatever breaks on an unknown network
            _check_forward(model, example_input)
            raise ModelError(
                f"the channels of the model cannot be followed "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
        if any(name not in flow.met for name, _ in model.named_parameters()):
            _follow_training(flow, example_input)
    flow.settle()
    return _Groups(flow).describe()


def _follow_training(flow: Flow, example_input: Any) -> None:
    flow.model.train()
    try:
        follow(flow, example_input, LAYER_RULES, operation)
    except Exception:  # branches that cannot run stay unseen, as they do in evaluation mode
        flow.model.eval()


class _Groups:
    """Units and groups from the rows that layers share."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.reasons = flow.labels.reasons()
        order = {name: i for i, (name, _) in enumerate(flow.model.named_modules())}
        self.makers = sorted(flow.makers, key=lambda maker: order[maker[0]])
        self.roots = {key: label_of(flow.labels.find(r.codes)) for key, r in flow.rows.items()}
        self.groups = self._tied_makers()
        size = int(label_of(flow.labels.fresh(1))) + 1
        self.group_of = torch.full((size,), NOWHERE)
        self.unit_of = torch.full((size,), NOWHERE)
        for position, makers in enumerate(self.groups):
            units = list(dict.fromkeys(label for m in makers for label in self._free(m)))
            index = torch.tensor(units, dtype=torch.int64)
            self.group_of[index] = position
            self.unit_of[index] = torch.arange(len(units))

    def describe(self) -> list[TracedGroup]:
        sites = self._sites()
        splits, choices = self._splits(), self._choices()
        n_units_of = self.group_of[self.group_of != NOWHERE].bincount(minlength=len(self.groups))
        names: list[str] = []
        described = []
        for position, makers in enumerate(self.groups):
            producers = tuple(dict.fromkeys(layer for layer, _, _ in makers))
            layer, tensor, _ = makers[0]
            name = f"{layer}.{tensor}" if layer in names else layer
            names.append(name)
            n_units = int(n_units_of[position])
            n_blocks, reason = self._blocks(position, n_units)
            reason = self._kept(makers) or _uneven(sites[position], n_units) or reason
            if reason is not None:
                n_units = self.flow.makers[makers[0]]
            described.append(
                TracedGroup(
                    name=name,
                    producers=producers,
                    n_units=n_units,
                    n_blocks=n_blocks,
                    sites=tuple(sites[position]),
                    splits=tuple(splits[position]),
                    choices=tuple(choices[position]),
                    reason=reason,
                )
            )
        matches = self._matches()
        return [
            replace(group, matches=tuple(names[i] for i in sorted(matches[position])))
            for position, group in enumerate(described)
        ]

    def _free(self, maker: tuple[str, str, int]) -> list[int]:
        rows, roots = self.flow.rows[maker], self.roots[maker]
        return list(dict.fromkeys(roots[~self.flow.labels.is_fixed(rows.codes)].tolist()))

    def _tied_makers(self) -> list[list[tuple[str, str, int]]]:
        groups: list[list[tuple[str, str, int]]] = []
        where: dict[int, list[tuple[str, str, int]]] = {}
        for maker in self.makers:
            labels = self._free(maker)
            group = [maker]
            for other in {id(where[x]): where[x] for x in labels if x in where}.values():
                group += other
                groups.remove(other)
            group.sort(key=self.makers.index)
            groups.append(group)
            for tied in group:
                where.update(dict.fromkeys(self._free(tied), group))
        return sorted(groups, key=lambda group: self.makers.index(group[0]))

    def _sites(self) -> list[list[Site]]:
        sites: list[list[Site]] = [[] for _ in self.groups]
        for key, rows in self.flow.rows.items():
            groups, units = self.group_of[self.roots[key]], self.unit_of[self.roots[key]]
            for position in groups[groups != NOWHERE].unique().tolist():
                own = torch.where(groups == position, units, NOWHERE)
                sites[position].append(
                    Site(
                        layer=rows.layer,
                        tensor=rows.tensor,
                        dim=rows.dim,
                        is_unit=rows.is_unit,
                        units=own,
                        n_blocks=rows.n_blocks,
                        is_count=rows.is_count,
                        is_size=rows.is_size,
                    )
                )
        return sites

    def _matches(self) -> list[set[int]]:
        matches: list[set[int]] = [set() for _ in self.groups]
        for pair in self.flow.matches:
            a, b = (
                self.group_of[label_of(self.flow.labels.find(codes))].unique() for codes in pair
            )
            if len(a) == len(b) == 1 and a != b and NOWHERE not in (a, b):
                matches[int(a)].add(int(b))
                matches[int(b)].add(int(a))
        return matches

    def _splits(self) -> list[list[Split]]:
        noted = ((codes, Split(where, line)) for codes, where, line in self.flow.splits)
        return self._by_group(noted)

    def _choices(self) -> list[list[str]]:
        return self._by_group(self.flow.sizes.choices)

    def _by_group(self, noted: Iterable[tuple[Tensor, T]]) -> list[list[T]]:
        found: list[list[T]] = [[] for _ in self.groups]
        for codes, what in noted:
            groups = self.group_of[label_of(self.flow.labels.find(codes))]
            for position in groups[groups != NOWHERE].unique().tolist():
                if what not in found[position]:
                    found[position].append(what)
        return found

    def _kept(self, makers: list[tuple[str, str, int]]) -> str | None:
        for maker in makers:
            codes = self.flow.rows[maker].codes
            for label in self.roots[maker].unique().tolist():
                if label in self.reasons:
                    return self.reasons[label]
            if self.flow.labels.is_fixed(codes).any():
                return self.flow.labels.reason_of(codes)
        return None

    def _blocks(self, position: int, n_units: int) -> tuple[int, str | None]:
        n_blocks = 1
        for codes, count, layer in self.flow.blocks:
            labels = label_of(self.flow.labels.find(codes))
            is_own = self.group_of[labels] == position
            if is_own.any():
                units = self.unit_of[labels]
                if not is_own.all() or not torch.equal(units, torch.arange(n_units)):
                    return 1, f"{layer} groups channels that come from several layers"
                n_blocks = lcm(n_blocks, count)
        if n_units % n_blocks or n_units == n_blocks > 1:
            return 1, f"its {n_units} channels form {n_blocks} blocks that cannot shrink alike"
        return n_blocks, None


def _uneven(sites: list[Site], n_units: int) -> str | None:
    if n_units == 1:
        return "all its channels are tied together"
    for site in sites:
        counts = site.units[site.units != NOWHERE].bincount(minlength=n_units)
        if site.is_unit and counts.min() != counts.max():
            return f"its channels are spread unevenly over {site.layer}"
    return None


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, name, buffer, content in buffers:
            module._buffers[name] = buffer
            if not torch.equal(buffer, content) and not _shares_memory(buffer):
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(content)
        for module, mode in modes.items():
            module.training = mode


def _shares_memory(tensor: Tensor) -> bool:
    """Whether entries of a tensor are one number in memory, which nothing can write to."""
    return any(
        size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _check_forward(model: nn.Module, example_input: Any) -> None:
    try:
        with torch.no_grad():
            call(model, example_input)
    except AdmmExpError:
        raise
    except Exception as error:
        raise not_accepted(example_input, error) from error
